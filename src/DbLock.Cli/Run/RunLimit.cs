using System.Diagnostics;

namespace DbLock.Cli;

/// <summary>How long all that comes before the command may take, counted from when this is made.</summary>
/// <param name="timeout">How long the user lets the lock be waited for: zero only tries, and infinite waits for ever.</param>
internal sealed class RunLimit(TimeSpan timeout)
{
    /// <summary>How long a question and its answer may be on their way, beyond the time that the user allows.</summary>
    public static readonly TimeSpan OnTheWay = TimeSpan.FromSeconds(1);

    // A timeout that is shorter than this leaves so much for all together, so that a busy machine can connect.
    private static readonly TimeSpan Least = TimeSpan.FromSeconds(3);

    private readonly long _start = Stopwatch.GetTimestamp();

    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    /// <summary>Gets how long the server may still wait for the lock.</summary>
    public TimeSpan Wait => timeout <= TimeSpan.Zero ? timeout : Max(timeout - Elapsed, TimeSpan.Zero);

    /// <summary>Gets how long an answer that takes as long as the wait may still take.</summary>
    public TimeSpan WaitWithAnswer => timeout <= TimeSpan.Zero ? timeout : Max(Whole - Elapsed, OnTheWay);

    /// <summary>Gets how long an answer that comes without a wait may take.</summary>
    public TimeSpan Answer => timeout > TimeSpan.Zero && WaitWithAnswer < TrustWindow.Length ? WaitWithAnswer : TrustWindow.Length;

    private TimeSpan Whole => Max(timeout + OnTheWay, Least);

    /// <summary>Returns how long connecting may take.</summary>
    public TimeSpan Connecting(Database database)
    {
        var configured = database.ConnectTimeout;
        return timeout > TimeSpan.Zero && (configured == Timeout.InfiniteTimeSpan || Whole < configured) ? Whole : configured;
    }

    private static TimeSpan Max(TimeSpan one, TimeSpan other) => one > other ? one : other;
}
