using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>Notices that a lock is lost whose connection does nothing else, and says why.</summary>
internal sealed class HoldWatch(DbConnection connection, Lock @lock, long sessionId) : IRunHold
{
    // What was stopped itself (SIGSTOP, Ctrl-Z) could not hear: the server is asked once more before the command pays for it.
    private static readonly TimeSpan AfterStop = TimeSpan.FromSeconds(2);

    public long? SessionId => sessionId;

    public long? FencingToken => @lock.FencingToken;

    public int? Slot => @lock.Slot;

    public Task ReleaseAsync() => @lock.ReleaseAsync().AsTask();

    /// <summary>Asks the server once more, if it was not asked this very moment: before something is started on its answer.</summary>
    /// <returns>Null when it holds the lock for us, else why the lock is lost.</returns>
    public Task<string?> ConfirmAsync() =>
        ReasonAsync(async () => await LockWatch.ConfirmGrant(@lock, async: true).ConfigureAwait(false));

    /// <summary>Watches until it is told to stop, or until the lock is lost.</summary>
    /// <returns>Null when it was told to stop, else why the lock is lost.</returns>
    /// <remarks>A question that is not answered is left behind with its connection, of which nothing may be asked any more.</remarks>
    public Task<string?> LossAsync(CancellationToken stop) => ReasonAsync(async () =>
    {
        using var watch = new LockWatch(@lock, AfterStop);
        var beat = @lock.Interface.Driver is IListeningDriver ? TrustWindow.BeatWhileHearing : TrustWindow.Beat;
        await watch.Run(beat, beat, Pause, stop).ConfigureAwait(false);
    });

    private async Task Pause(TimeSpan beat, CancellationToken stop)
    {
        if (@lock.Interface.Driver is not IListeningDriver driver)
        {
            await Task.Delay(beat, stop).ConfigureAwait(false);
            return;
        }

        using var pause = new TimedCancel(beat, stop);
        try
        {
            await driver.Hear(connection, static _ => { }, pause.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            // The time is over, and the server is asked.
        }
    }

    private async Task<string?> ReasonAsync(Func<Task> ask)
    {
        try
        {
            await ask().ConfigureAwait(false);
        }
        catch (Exception e) when (e is DbException or IOException or InvalidOperationException)
        {
            return (e.InnerException ?? e).Message;
        }

        return @lock.IsHeld ? null
            : @lock.Holding.Trust.HasRunOut(Stopwatch.GetTimestamp())
                ? string.Create(CultureInfo.InvariantCulture, $"the server has not answered for {TrustWindow.Length.TotalSeconds} s")
            : connection.State == ConnectionState.Open ? "the server says that this session does not hold it"
            : "the connection to the server has ended";
    }
}
