using DbLock;
using Microsoft.EntityFrameworkCore;

namespace WebService;

/// <summary>Sends the orders, on the instance that leads. It is made anew for each term, with a context of its own.</summary>
internal sealed class Courier(ILeader leader, Shop shop, IConfiguration configuration) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var rounds = new PeriodicTimer(configuration.GetValue("Courier:Interval", TimeSpan.FromSeconds(1)));
        while (await rounds.WaitForNextTickAsync(stoppingToken))
        {
            // There is a token while this instance leads. It says by which term an order was sent.
            if (leader.FencingToken is { } token)
            {
                await shop.Orders.Where(order => order.SentBy == null).ExecuteUpdateAsync(set => set.SetProperty(order => order.SentBy, token), stoppingToken);
            }
        }
    }
}
