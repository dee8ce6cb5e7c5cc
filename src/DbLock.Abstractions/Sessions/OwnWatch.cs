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
    private readonly LockWatch _watch;
    private readonly CancellationTokenSource _end = new();
    private readonly Task _running;

    public OwnWatch(DbConnection connection, Lock @lock)
    {
        (_connection, _lock, _watch) = (connection, @lock, new LockWatch(@lock));
        using (ExecutionContext.SuppressFlow())
        {
            _running = _watch.Run(FirstBeat, TrustWindow.Beat, static (beat, end) => Task.Delay(beat, end), _end.Token);
        }
    }

    /// <inheritdoc cref="LockWatch.IsTrusted"/>
    public bool IsTrusted() => _watch.IsTrusted();

    /// <summary>Ends the watch, after the question that is under way.</summary>
    public async ValueTask End(bool async)
    {
        _end.Cancel();
        if (async)
        {
            await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        else if (!_running.IsCompleted)
        {
            // The caller's own thread waits for a question that another has asked.
            ((IAsyncResult)_running).AsyncWaitHandle.WaitOne();
        }

        Dispose();
    }

    public void Dispose()
    {
        _end.Dispose();
        _watch.Dispose();
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
