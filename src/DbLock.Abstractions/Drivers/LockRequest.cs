namespace DbLock.Drivers;

/// <summary>What a <see cref="Lock"/> wants of a dialect.</summary>
/// <param name="Key">The key.</param>
public readonly record struct LockRequest(LockKey Key)
{
    /// <summary>Gets whether the lock is shared.</summary>
    public bool Shared { get; init; }

    /// <summary>
    /// Gets the keys of which one is enough, in the order in which they are tried; <see cref="Key"/> has all of them then, and nothing is
    /// waited for. Null when the key is to be had. It is asked only where <see cref="LockDialect.HasAny"/>.
    /// </summary>
    public IReadOnlyList<LockKey>? Any { get; init; }

    /// <summary>Gets what ends the hold.</summary>
    public LockScope Scope { get; init; }

    /// <summary>Gets how long to wait: zero tries once, <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever.</summary>
    public TimeSpan Timeout { get; init; }

    /// <summary>Gets whether the commands run inside the caller's open transaction.</summary>
    public bool InTransaction { get; init; }

    /// <summary>
    /// Gets the number of the server session that the client believes to speak to. It is null when the number is not known and when a
    /// pooler is trusted, and negative when the client has no session of its own or its number is hidden
    /// (<see cref="ILockDriver.HiddenSession"/>).
    /// </summary>
    public int? SessionId { get; init; }

    /// <summary>
    /// Gets whether an earlier answer on this connection has shown that the client speaks to one session of a server whose locks can be
    /// trusted (<see cref="LockReply.IsDirect"/>).
    /// </summary>
    public bool IsDirect { get; init; }

    /// <summary>
    /// Gets the number of the transaction in which the connection was last granted the lock (<see cref="LockReply.Transaction"/>); 0 for
    /// none.
    /// </summary>
    public long HeldIn { get; init; }

    /// <summary>Gets whether a grant answers with its fencing token.</summary>
    public bool Fencing { get; init; }

    /// <summary>Gets whether the connection is the lock's own, so that nobody else can have begun a transaction on it.</summary>
    public bool HasOwnConnection { get; init; }

    /// <summary>Gets whether the lock to release may have been granted after a wait (<see cref="LockReply.HasWaited"/>).</summary>
    public bool AfterWait { get; init; }

    /// <summary>Gets the timeout in whole milliseconds, rounded up so that a short wait is never a try; -1 waits for ever.</summary>
    public long Milliseconds => Timeout < TimeSpan.Zero
        ? -1 : (Timeout.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond;

    /// <summary>Gets whether the lock is only tried, never waited for.</summary>
    public bool Try => Timeout == TimeSpan.Zero;
}
