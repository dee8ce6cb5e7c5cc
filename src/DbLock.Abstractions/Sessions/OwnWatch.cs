using System.Data.Common;

namespace DbLock;

/// <summary>The watch over a lock that has a connection of its own, from its grant until the lock is let go.</summary>
/// <remarks>It does not know the <see cref="HeldLock"/>, so that one which nobody has any more is noticed.</remarks>
internal sealed class OwnWatch : IDisposable
{
    // The first question brings the session's settings with it, and shows the lock's name there.
    private static readonly TimeSpan FirstBeat = TimeSpan.FromMilliseconds(100);

    private readonly DbConnection _connection;
    private readonly Lock _lock;
    private readonly Timer _first;
    private LockWatch? _watch;
    private CancellationTokenSource? _end;
    private Task _running = Task.CompletedTask;
    private bool _isEnded;
    private bool _isDeaf;

    public OwnWatch(DbConnection connection, Lock @lock)
    {
        (_connection, _lock) = (connection, @lock);
        using (ExecutionContext.SuppressFlow())
        {
            // Most locks are let go before, and cost no more than this timer.
            _first = new Timer(static watch => ((OwnWatch)watch!).Begin(), this, FirstBeat, Timeout.InfiniteTimeSpan);
        }
    }

    /// <inheritdoc cref="LockWatch.IsTrusted"/>
    public bool IsTrusted() => LockWatch.IsTrusted(_lock);

    /// <summary>Ends the watch, after the question that is under way.</summary>
    public ValueTask End(bool async)
    {
        lock (_first)
        {
            _isEnded = true;
            _first.Dispose();
        }

        return _end is null ? default : EndRunning(_end, async);
    }

    public void Dispose()
    {
        _first.Dispose();
        _end?.Dispose();
        _watch?.Dispose();
    }

    private void Begin()
    {
        lock (_first)
        {
            if (_isEnded)
            {
                return;
            }

            (_end, _watch) = (new CancellationTokenSource(), new LockWatch(_lock));
            _running = Run(_watch, _end.Token);
        }
    }

    // Not under the lock, for which who ends the watch would wait with its thread.
    private async Task Run(LockWatch watch, CancellationToken end)
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        var beat = _lock.Interface.Driver is IListeningDriver ? TrustWindow.BeatWhileHearing : TrustWindow.Beat;
        await watch.Run(TimeSpan.Zero, beat, Pause, end).ConfigureAwait(false);
    }

    // The server tells a connection of the end of its session, which costs it no question.
    private async Task Pause(TimeSpan beat, CancellationToken end)
    {
        if (beat == TimeSpan.Zero || _isDeaf || _lock.Interface.Driver is not IListeningDriver driver)
        {
            await Task.Delay(beat < TrustWindow.Beat ? beat : TrustWindow.Beat, end).ConfigureAwait(false);
            return;
        }

        using var pause = new TimedCancel(beat, end);
        try
        {
            await driver.Hear(_connection, static _ => { }, pause.Token).ConfigureAwait(false);
        }
        catch (Exception) when (!end.IsCancellationRequested)
        {
            // The time is over, or the session: the question that comes now finds out.
        }

        // Where nothing is heard although the session lives, the server is asked as often as over any other driver.
        _isDeaf = !pause.Token.IsCancellationRequested;
    }

    private async ValueTask EndRunning(CancellationTokenSource end, bool async)
    {
        end.Cancel();
        if (async)
        {
            await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        else if (!_running.IsCompleted)
        {
            // The caller's own thread waits for a question that another has asked. It waits so that the thread pool knows of it, which
            // may have no other thread for the answer.
            _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing).GetAwaiter().GetResult();
        }

        Dispose();
    }

    /// <summary>
    /// Ends the session of a lock that nobody has any more: nobody could let go of it. A finalizer calls it, in which nothing may be thrown
    /// and nothing may wait.
    /// </summary>
    public void Abandon() => _ = EndSession();

    private async Task EndSession()
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            await End(async: true).ConfigureAwait(false);
            Log.Abandoned(_lock.Logger, _lock.Key);
            _lock.Interface.Driver.Discard(_connection);
        }
        catch (Exception)
        {
            // The connection is broken, and its session has ended.
        }
    }
}
