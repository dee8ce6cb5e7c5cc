using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>The time in which a call must end: its timeout, or the cancel of its token, and one second more for the round trip.</summary>
/// <param name="Timeout">The timeout; zero and infinite set no limit by themselves.</param>
/// <param name="Start">When the call began, on the clock of <see cref="Stopwatch"/>.</param>
/// <param name="Token">The caller's token.</param>
internal readonly record struct Limit(TimeSpan Timeout, long Start, CancellationToken Token)
{
    /// <summary>How much longer than its timeout, or than the cancel, a call may take.</summary>
    public static readonly TimeSpan Way = TimeSpan.FromSeconds(1);

    /// <summary>
    /// The longest timeout that sets a limit. Timers cannot count much further, and nobody will wait for the end of a longer one.
    /// </summary>
    public static readonly TimeSpan Longest = TimeSpan.FromDays(10);

    public static Limit Of(TimeSpan timeout, CancellationToken token)
    {
        var finite = timeout > TimeSpan.Zero && timeout < Longest ? timeout : TimeSpan.Zero;
        return finite > TimeSpan.Zero || token.CanBeCanceled ? new(finite, Stopwatch.GetTimestamp(), token) : default;
    }

    /// <summary>Gets whether the call has a limit.</summary>
    public bool IsSet => Timeout > TimeSpan.Zero || Token.CanBeCanceled;

    /// <summary>Gets how much of the timeout is left for a wait. An infinite timeout, and zero, are returned as they are.</summary>
    public TimeSpan LeftToWait
    {
        get
        {
            var left = Timeout > TimeSpan.Zero ? Timeout - Stopwatch.GetElapsedTime(Start) : Timeout;
            return left > TimeSpan.Zero || Timeout <= TimeSpan.Zero ? left : TimeSpan.Zero;
        }
    }

    /// <summary>
    /// Gets how long the next answer may take. It is infinite for a call that has no timeout and whose token is not cancelled yet.
    /// </summary>
    public TimeSpan LeftToAnswer =>
        Token.IsCancellationRequested ? Way
        : Timeout > TimeSpan.Zero ? LeftToWait + Way
        : System.Threading.Timeout.InfiniteTimeSpan;

    /// <summary>
    /// Returns the limit of one statement. Over a provider whose own command timeout must not run (<see cref="ILockDriver.OwnLimit"/>) that
    /// is the statement's own, too, and the statement says that it has one.
    /// </summary>
    public Limit For(ref LockStatement statement, ILockDriver driver, DbConnection connection)
    {
        if (driver.OwnLimit(connection) is not { } own)
        {
            return this;
        }

        var most = statement.Wait is null ? statement.Limit ?? own : System.Threading.Timeout.InfiniteTimeSpan;
        statement = statement.CommandTimeout is null ? statement with { Limit = own } : statement;
        return most <= TimeSpan.Zero || most > Longest || (Timeout > TimeSpan.Zero && LeftToWait < most)
            ? this : new(most, Stopwatch.GetTimestamp(), Token);
    }
}
