namespace DbLock.Drivers;

/// <summary>What a <see cref="Lock"/> asks a dialect to say.</summary>
/// <param name="Key">The key.</param>
public readonly record struct LockRequest(LockKey Key)
{
    /// <summary>Gets whether the lock is shared.</summary>
    public bool Shared { get; init; }

    /// <summary>Gets what ends the hold.</summary>
    public LockScope Scope { get; init; }

    /// <summary>Gets how long to wait: zero tries once, <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever.</summary>
    public TimeSpan Timeout { get; init; }

    /// <summary>Gets whether the commands run inside the caller's open transaction.</summary>
    public bool InTransaction { get; init; }

    /// <summary>
    /// Gets the server session that the client believes it speaks to; null when unknown, or when a pooler is trusted; negative when it has
    /// none of its own, or hides it (<see cref="ILockDriver.HiddenSession"/>).
    /// </summary>
    public int? SessionId { get; init; }

    /// <summary>
    /// Gets whether an answer on this connection has shown (<see cref="LockReply.IsDirect"/>) that the client speaks to one session of a
    /// server that can be trusted.
    /// </summary>
    public bool IsDirect { get; init; }

    /// <summary>
    /// Gets the transaction in which the connection was last granted the lock, as <see cref="LockReply.Transaction"/> told; 0 for none.
    /// </summary>
    public long HeldIn { get; init; }

    /// <summary>Gets whether a grant answers with its fencing token.</summary>
    public bool Fencing { get; init; }

    /// <summary>Gets whether the connection is the lock's own, on which nobody else can have begun a transaction.</summary>
    public bool HasOwnConnection { get; init; }

    /// <summary>Gets whether what is to be let go may have been granted after a wait (<see cref="LockReply.HasWaited"/>).</summary>
    public bool AfterWait { get; init; }

    /// <summary>Gets the timeout in whole milliseconds, rounded up so that a short wait is never none; -1 is for ever.</summary>
    public long Milliseconds => Timeout < TimeSpan.Zero
        ? -1 : (Timeout.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond;

    /// <summary>Gets whether the lock is only tried, never waited for.</summary>
    public bool Try => Timeout == TimeSpan.Zero;
}
