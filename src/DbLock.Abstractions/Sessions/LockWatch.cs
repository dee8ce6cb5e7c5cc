using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>Asks the server twice a second whether it still holds a lock for us, on a connection that is the lock's alone.</summary>
/// <remarks>It knows the <see cref="HeldLock"/> only weakly, so that one which nobody has any more is noticed.</remarks>
internal sealed class LockWatch : IDisposable
{
    private static readonly TimeSpan Beat = TimeSpan.FromMilliseconds(500);

    // The first question brings the session's settings with it, and shows the lock's name there.
    private static readonly TimeSpan FirstBeat = TimeSpan.FromMilliseconds(100);

    /// <summary>How long the server's last answer is good for, counted from the question.</summary>
    public static readonly TimeSpan Trust = TrustWindow.Length;

    private readonly DbConnection _connection;
    private readonly Lock _lock;
    private readonly SemaphoreSlim _turn = new(1);
    private readonly CancellationTokenSource _end = new();
    private readonly Timer _expiry;
    private long _confirmed;

    public LockWatch(DbConnection connection, Lock @lock)
    {
        (_connection, _lock, _confirmed) = (connection, @lock, @lock.Asked);
        using (ExecutionContext.SuppressFlow())
        {
            _expiry = new Timer(static watch => ((LockWatch)watch!).Distrust(), this, Trust, Timeout.InfiniteTimeSpan);
            _ = Watch();
        }
    }

    /// <summary>
    /// Gets whether the last answer is not too old. A process that was paused sees here that it is, before anything else runs.
    /// </summary>
    public bool IsTrusted()
    {
        if (_lock.IsHeld && Stopwatch.GetElapsedTime(Volatile.Read(ref _confirmed)) > Trust)
        {
            Distrust();
        }

        return _lock.IsHeld;
    }

    /// <summary>Ends the watch, after the question that is under way.</summary>
    public async ValueTask End(bool async)
    {
        if (async)
        {
            await _turn.WaitAsync(CancellationToken.None).ConfigureAwait(false);
        }
        else
        {
            _turn.Wait(CancellationToken.None);
        }

        Dispose();
        _turn.Release();
    }

    /// <summary>
    /// Ends the session of a lock that nobody has any more: nobody could let go of it. A finalizer calls it, in which nothing may be thrown
    /// and nothing may wait.
    /// </summary>
    public void Abandon() => _ = EndSession();

    public void Dispose()
    {
        _end.Cancel();
        _expiry.Dispose();
    }

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

    private async Task Watch()
    {
        for (var beat = FirstBeat; ; beat = Beat)
        {
            await Task.Delay(beat, _end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await _turn.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            try
            {
                if (_end.IsCancellationRequested || !await _lock.Confirm(async: true).ConfigureAwait(false))
                {
                    return;
                }

                Volatile.Write(ref _confirmed, _lock.Asked);
                var left = Trust - Stopwatch.GetElapsedTime(_confirmed);
                _expiry.Change(left > TimeSpan.Zero ? left : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
            }
            catch (Exception)
            {
                // Its end came between; or nobody knows, and the trust runs out.
            }
            finally
            {
                _turn.Release();
            }
        }
    }

    private void Distrust() => _lock.Distrust();
}
