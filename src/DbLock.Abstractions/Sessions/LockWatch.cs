using System.Diagnostics;

namespace DbLock;

/// <summary>
/// Asks the server again and again whether it still holds a lock, and counts the lock as lost when the server has not answered for as long
/// as its last answer is trusted.
/// </summary>
internal sealed class LockWatch : IDisposable
{
    // A timer that fires so late was held up: this process stood still, or the machine is overloaded.
    private static readonly TimeSpan Late = TimeSpan.FromMilliseconds(100);

    // An answer that is no older than this is not asked for again.
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(200);

    private readonly Lock _lock;
    private readonly TimeSpan _grace;
    private readonly Timer _expiry;
    private long _due;
    private bool _isLastLook;

    /// <summary>Initializes a new instance for a lock that has just been granted.</summary>
    /// <param name="lock">The lock.</param>
    /// <param name="grace">
    /// How much time the server has in any case to answer a question, also after this process was stopped longer than the trust lasts.
    /// </param>
    public LockWatch(Lock @lock, TimeSpan grace = default)
    {
        (_lock, _grace) = (@lock, grace);
        using (ExecutionContext.SuppressFlow())
        {
            _expiry = new Timer(static watch => ((LockWatch)watch!).OnTime(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        LookAfter(_lock.Holding.Trust.Left(Stopwatch.GetTimestamp(), grace));
    }

    /// <summary>
    /// Says whether a lock is held and the last answer is not too old. A process that was paused sees here that it is, before anything else
    /// runs.
    /// </summary>
    public static bool IsTrusted(Lock @lock)
    {
        if (@lock.IsHeld && @lock.Holding.Trust.HasRunOut(Stopwatch.GetTimestamp()))
        {
            @lock.Holding.Distrust();
        }

        return @lock.IsHeld;
    }

    /// <summary>
    /// Asks once more whether the lock is held, if the grant was read late. This process may have been paused meanwhile, and the session
    /// may have ended. It is called before the caller begins anything under the lock.
    /// </summary>
    /// <returns>Whether the lock is held.</returns>
    public static async ValueTask<bool> ConfirmGrant(Lock @lock, bool async)
    {
        for (var oldest = Moment; @lock.Holding.Trust.Age(Stopwatch.GetTimestamp()) > oldest; oldest = TrustWindow.Length)
        {
            if (!await @lock.Holding.Confirm(async).ConfigureAwait(false))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Asks until it is told to stop, or until the lock is lost.</summary>
    /// <param name="first">How long after the grant the first question is asked.</param>
    /// <param name="beat">How long after an answer the next question is asked.</param>
    /// <param name="pause">Waits for so long, or throws when it hears that the connection has ended.</param>
    /// <param name="end">Tells it to stop. A question that is under way is waited for.</param>
    public async Task Run(TimeSpan first, TimeSpan beat, Func<TimeSpan, CancellationToken, Task> pause, CancellationToken end)
    {
        for (var wait = first; ; wait = beat)
        {
            var pausing = pause(wait, end);
            await pausing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (end.IsCancellationRequested)
            {
                return;
            }

            await pausing.ConfigureAwait(false);
            if (_grace == TimeSpan.Zero && !IsTrusted(_lock))
            {
                // The process stood still for longer than the last answer is trusted. The lock counts as lost, whatever the server would
                // answer now.
                return;
            }

            if (!await _lock.Holding.Confirm(async: true, orThrow: false, CancellationToken.None).ConfigureAwait(false))
            {
                return;
            }

            _isLastLook = false;
            LookAfter(_lock.Holding.Trust.Left(Stopwatch.GetTimestamp(), _grace));
        }
    }

    public void Dispose() => _expiry.Dispose();

    private void LookAfter(TimeSpan left)
    {
        Volatile.Write(ref _due, Stopwatch.GetTimestamp() + (long)(left.TotalSeconds * Stopwatch.Frequency));
        try
        {
            _expiry.Change(left, Timeout.InfiniteTimeSpan);
        }
        catch (ObjectDisposedException)
        {
            // The watch has ended while the timer fired.
        }
    }

    private void OnTime()
    {
        var now = Stopwatch.GetTimestamp();
        var left = _lock.Holding.Trust.Left(now, _grace);
        if (left == TimeSpan.Zero && !_isLastLook && Stopwatch.GetElapsedTime(Volatile.Read(ref _due), now) > Late)
        {
            // The answer may have arrived without being read yet, so the server gets its time of grace.
            (_isLastLook, left) = (true, _grace);
        }

        if (left > TimeSpan.Zero)
        {
            // A timer may fire up to a millisecond early.
            LookAfter(left + TimeSpan.FromMilliseconds(1));
        }
        else
        {
            _lock.Holding.Distrust();
        }
    }
}
