using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// Stands for election for as long as the application runs, and runs a service while it leads: made anew for each term, in a scope of its
/// own.
/// </summary>
internal sealed class LeaderElection<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] T>(
    IServiceProvider provider, Leader leader, ILogger logger, bool tellsKey) : BackgroundService
    where T : class, IHostedService
{
    private static readonly TimeSpan ShortestPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan LongestDecision = TimeSpan.FromSeconds(1);

    // Fires when the host waits for the end no more.
    private readonly CancellationTokenSource _limit = new();

    private static string Service => typeof(T).Name;

    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await base.StopAsync(cancellationToken).ConfigureAwait(false);
        await _limit.CancelAsync().ConfigureAwait(false);

        // What becomes of the lock is decided at once then, and the host disposes of what carries it.
        await (ExecuteTask ?? Task.CompletedTask).WaitAsync(LongestDecision, CancellationToken.None)
            .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    public override void Dispose()
    {
        base.Dispose();
        _limit.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        // The host stops its services one after the other, within one limit: what another takes of that must not be wanting here.
        var stopping = provider.GetService<IHostApplicationLifetime>()?.ApplicationStopping ?? CancellationToken.None;
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken, stopping);
        await Stand(ending.Token).ConfigureAwait(false);
    }

    private async Task Stand(CancellationToken stoppingToken)
    {
        var isTroubled = false;
        for (var pause = ShortestPause; !stoppingToken.IsCancellationRequested;)
        {
            try
            {
                var held = await leader.Source.AcquireLockAsync(leader.Key, cancellationToken: stoppingToken).ConfigureAwait(false);
                isTroubled = false;
                if (await Lead(held, stoppingToken).ConfigureAwait(false) != LeaderChange.Failed)
                {
                    pause = ShortestPause;
                    continue;
                }
            }
            catch (Exception) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                // It is logged once, not each time.
                if (!isTroubled)
                {
                    LeaderLog.CannotStand(logger, leader.Key, e);
                }

                (isTroubled, pause) = (true, ShortestPause);
            }

            await Task.Delay(pause, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            pause = 2 * pause < LongestPause ? 2 * pause : LongestPause;
        }
    }

    private async Task<LeaderChange> Lead(IHeldLock held, CancellationToken stoppingToken)
    {
        var (start, key) = (Stopwatch.GetTimestamp(), tellsKey ? leader.Key : null);
        using var term = CancellationTokenSource.CreateLinkedTokenSource(held.Lost, stoppingToken);
        LeaderTelemetry.Begin(Service, key);
        LeaderLog.Elected(logger, leader.Key, held.FencingToken, Service);
        leader.Begin(held, term.Token);
        var (failure, hasStopped) = await Run(term).ConfigureAwait(false);
        var change = held.Lost.IsCancellationRequested ? LeaderChange.Lost
            : failure is not null ? LeaderChange.Failed : LeaderChange.Resigned;
        leader.End(change);
        if (hasStopped)
        {
            change = await LetGo(held, change).ConfigureAwait(false);
        }
        else
        {
            KeptLocks.Keep(held);
            LeaderLog.DoesNotStop(logger, leader.Key, Service);
        }

        switch (change)
        {
            case LeaderChange.Lost:
                LeaderLog.Lost(logger, leader.Key);
                break;
            case LeaderChange.Failed:
                LeaderLog.Failed(logger, leader.Key, Service, failure!);
                break;
            default:
                LeaderLog.Resigned(logger, leader.Key);
                break;
        }

        LeaderTelemetry.End(Service, key, start, change);
        return change;
    }

    /// <summary>Runs the service until the term ends or the service fails, and stops it.</summary>
    /// <returns>Why it failed, null where it did not; and whether it has stopped.</returns>
    private async Task<(Exception? Failure, bool HasStopped)> Run(CancellationTokenSource term)
    {
        var (failure, service, starting) = (default(Exception), default(T), Task.CompletedTask);
        var scope = provider.CreateAsyncScope();
        try
        {
            service = ActivatorUtilities.CreateInstance<T>(scope.ServiceProvider);
            starting = service.StartAsync(term.Token);
            await starting.WaitAsync(_limit.Token).ConfigureAwait(false);
            await UntilOver(service as BackgroundService, term.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (!term.IsCancellationRequested)
        {
            failure = e;
        }
        catch (Exception)
        {
            // The term has ended while the service was being started.
        }

        // What the service hangs at the end of its term, or makes in its scope, is its own, and may fail.
        await Tell(term.CancelAsync()).ConfigureAwait(false);
        var hasStopped = starting.IsCompleted && (service is null || await Stop(service).ConfigureAwait(false));
        if (hasStopped)
        {
            // A service that still runs keeps what it works with.
            await Tell(Disposed(service)).ConfigureAwait(false);
            await Tell(scope.DisposeAsync().AsTask()).ConfigureAwait(false);
        }

        return (failure, hasStopped);
    }

    /// <summary>
    /// Waits for the end of the term. It throws when the service fails before; one that has come to its end is left in peace.
    /// </summary>
    private static async Task UntilOver(BackgroundService? service, CancellationToken term)
    {
        var over = Task.Delay(Timeout.InfiniteTimeSpan, term);
        if (service?.ExecuteTask is { } running
            && await Task.WhenAny(running, over).ConfigureAwait(false) == running
            && !term.IsCancellationRequested)
        {
            await running.ConfigureAwait(false);
        }

        await over.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Stops the service and waits for that, however long it takes, until the host waits no more.</summary>
    /// <returns>Whether it has stopped. Where nothing shows that it runs, it has stopped when its StopAsync has ended in time.</returns>
    private async Task<bool> Stop(T service)
    {
        var stopping = Stopped(service);
        await stopping.WaitAsync(_limit.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        var isInTime = stopping.IsCompleted && !_limit.IsCancellationRequested;
        if (stopping.IsCompleted && !(stopping.IsCanceled && _limit.IsCancellationRequested))
        {
            await Tell(stopping).ConfigureAwait(false);
        }

        return service is BackgroundService { ExecuteTask: { } running } ? stopping.IsCompleted && running.IsCompleted : isInTime;
    }

    // An async method, so that what is thrown at once is the task's.
    private async Task Stopped(T service) => await service.StopAsync(_limit.Token).ConfigureAwait(false);

    private static async Task Disposed(T? service)
    {
        if (service is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync().ConfigureAwait(false);
        }
        else
        {
            (service as IDisposable)?.Dispose();
        }
    }

    private async Task Tell(Task ending)
    {
        try
        {
            await ending.ConfigureAwait(false);
        }
        catch (Exception e)
        {
            LeaderLog.StopFailed(logger, leader.Key, Service, e);
        }
    }

    private static async Task<LeaderChange> LetGo(IHeldLock held, LeaderChange change)
    {
        await using (held.ConfigureAwait(false))
        {
            try
            {
                await held.ReleaseAsync().ConfigureAwait(false);
                return change;
            }
            catch (LockLostException)
            {
                return LeaderChange.Lost;
            }
        }
    }
}
