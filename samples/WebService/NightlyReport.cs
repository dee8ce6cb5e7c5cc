using System.Data.Common;
using DbLock;

namespace WebService;

/// <summary>Runs a report once in an interval, on whichever instance is first, however many there are and however their timers differ.</summary>
internal sealed class NightlyReport(DbDataSource database, IConfiguration configuration) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var interval = configuration.GetValue("NightlyReport:Interval", TimeSpan.FromDays(1));

        // The lease is not given again before most of the interval is over, even though the report takes two seconds: an instance whose timer
        // is late must not run it once more.
        var once = new LockOptions { Scope = LockScope.Lease, AtLeast = interval * 0.9 };
        using var nights = new PeriodicTimer(interval);
        while (await nights.WaitForNextTickAsync(stoppingToken))
        {
            // Not given means that another instance does it, or has done it.
            await using var turn = await database.TryAcquireLockAsync("web-service:report", options: once, cancellationToken: stoppingToken);
            if (turn is not null)
            {
                await Work.DoAsync(database, "report", turn.Lost);
            }
        }
    }
}
