namespace DbLock.Drivers;

/// <summary>What a <see cref="Lock"/> asks a dialect to say.</summary>
/// <param name="Key">The key.</param>
/// <param name="Shared">Whether the lock is shared.</param>
/// <param name="Scope">What ends the hold.</param>
/// <param name="Timeout">How long to wait: zero tries once, <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever.</param>
/// <param name="InTransaction">Whether the commands run inside the caller's open transaction.</param>
/// <param name="SessionId">
/// The server session that the client believes it speaks to; null when unknown, or when a pooler is trusted; negative when it has none of
/// its own, or hides it.
/// </param>
/// <param name="IsDirect">
/// Whether an answer on this connection has shown (<see cref="LockDialect.IsDirect"/>) that the client speaks to one session of a server
/// that can be trusted.
/// </param>
/// <param name="HeldIn">
/// The transaction in which the connection was last granted the lock, as <see cref="LockDialect.TransactionOf"/> told; 0 for none.
/// </param>
/// <param name="Fencing">Whether a grant answers with its fencing token.</param>
public readonly record struct LockRequest(
    LockKey Key,
    bool Shared = false,
    LockScope Scope = LockScope.Session,
    TimeSpan Timeout = default,
    bool InTransaction = false,
    int? SessionId = null,
    bool IsDirect = false,
    long HeldIn = 0,
    bool Fencing = false)
{
    /// <summary>Gets the timeout in whole milliseconds, rounded up so that a short wait is never none; -1 is for ever.</summary>
    public long Milliseconds => Timeout < TimeSpan.Zero
        ? -1 : (Timeout.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond;

    /// <summary>Gets whether the connection is the lock's own, on which nobody else can have begun a transaction.</summary>
    internal bool HasOwnConnection { get; init; }

    /// <summary>Gets whether what is to be let go may have been granted after a wait (<see cref="LockDialect.HasWaited"/>).</summary>
    internal bool AfterWait { get; init; }

    /// <summary>Gets whether the lock is only tried, never waited for.</summary>
    public bool Try => Timeout == TimeSpan.Zero;
}
