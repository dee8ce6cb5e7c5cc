using System.Data.Common;
using DbLock;
using Microsoft.Extensions.Hosting;

namespace Jobs;

/// <summary>The same without a scheduler.</summary>
internal sealed class EveryInterval(DbDataSource database, Report report) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var interval = TimeSpan.FromSeconds(Report.Seconds);
        var once = new LockOptions { Scope = LockScope.Lease, AtLeast = interval * 0.9 };
        using var due = new PeriodicTimer(interval);
        while (await due.WaitForNextTickAsync(stoppingToken))
        {
            await using var turn = await database.TryAcquireLockAsync("every-interval:report", options: once, cancellationToken: stoppingToken);
            if (turn is not null)
            {
                await report.MakeAsync(turn.Lost);
            }
        }
    }
}
