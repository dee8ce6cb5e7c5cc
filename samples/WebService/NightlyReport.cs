using System.Data.Common;
using DbLock;

namespace WebService;

/// <summary>Runs a report once in an interval, on whichever instance is first.</summary>
internal sealed class NightlyReport(LockPool locks, DbDataSource database, IConfiguration configuration) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var nights = new PeriodicTimer(configuration.GetValue("NightlyReport:Interval", TimeSpan.FromDays(1)));
        while (await nights.WaitForNextTickAsync(stoppingToken))
        {
            // Held elsewhere means that another instance does it.
            await using var held = await locks.TryAcquireLockAsync("web-service:report", cancellationToken: stoppingToken);
            if (held is not null)
            {
                await Work.DoAsync(database, "report", held.Lost);
            }
        }
    }
}
