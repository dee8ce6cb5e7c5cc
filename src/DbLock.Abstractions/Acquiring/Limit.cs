using System.Diagnostics;

namespace DbLock;

/// <summary>Until when a call may take: its timeout, or its token's cancel, and a second for the way there and back.</summary>
/// <param name="Timeout">The timeout; zero and infinite set no limit by themselves.</param>
/// <param name="Start">When the call began, on the clock of <see cref="Stopwatch"/>.</param>
/// <param name="Token">The caller's token.</param>
internal readonly record struct Limit(TimeSpan Timeout, long Start, CancellationToken Token)
{
    /// <summary>How much longer than its limit a call may take.</summary>
    public static readonly TimeSpan Way = TimeSpan.FromSeconds(1);

    /// <summary>Nobody waits for the end of a longer one, and no timer counts so far.</summary>
    public static readonly TimeSpan Longest = TimeSpan.FromDays(10);

    public static Limit Of(TimeSpan timeout, CancellationToken token)
    {
        var finite = timeout > TimeSpan.Zero && timeout < Longest ? timeout : TimeSpan.Zero;
        return finite > TimeSpan.Zero || token.CanBeCanceled ? new(finite, Stopwatch.GetTimestamp(), token) : default;
    }

    /// <summary>Gets whether there is any.</summary>
    public bool IsSet => Timeout > TimeSpan.Zero || Token.CanBeCanceled;

    /// <summary>Gets how much of the timeout is left for a wait: what is not finite stays as it is.</summary>
    public TimeSpan LeftToWait
    {
        get
        {
            var left = Timeout > TimeSpan.Zero ? Timeout - Stopwatch.GetElapsedTime(Start) : Timeout;
            return left > TimeSpan.Zero || Timeout <= TimeSpan.Zero ? left : TimeSpan.Zero;
        }
    }

    /// <summary>Gets how long the next answer may take; infinite while only a cancel would set a limit.</summary>
    public TimeSpan LeftToAnswer =>
        Token.IsCancellationRequested ? Way
        : Timeout > TimeSpan.Zero ? LeftToWait + Way
        : System.Threading.Timeout.InfiniteTimeSpan;
}
