using System.Diagnostics;
using DbLock;
using Microsoft.Extensions.Hosting;

namespace Leader;

/// <summary>What one instance does: it says again and again that it leads. A line begins with the time before that was asked.</summary>
internal sealed class Heartbeat(ILeader leader) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var beats = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while (await beats.WaitForNextTickAsync(stoppingToken))
        {
            var now = Stopwatch.GetTimestamp();
            if (leader.IsLeader)
            {
                Console.WriteLine($"{now} Leads {leader.FencingToken}");
            }
        }
    }
}
