namespace DbLock.Drivers;

/// <summary>All that the answer to <see cref="LockDialect.Acquire"/> says.</summary>
/// <param name="Outcome">What it means; never an error's.</param>
public readonly record struct LockReply(LockOutcome Outcome)
{
    /// <summary>Gets the fencing token of a grant that was asked for with one (<see cref="LockRequest.Fencing"/>); 0 for none.</summary>
    public long FencingToken { get; init; }

    /// <summary>
    /// Gets the number of the transaction in which the lock was granted, in transaction scope; 0 when the answer does not tell, and the
    /// server is then asked once more whether a transaction that looks like that of the hold is that transaction.
    /// </summary>
    public long Transaction { get; init; }

    /// <summary>
    /// Gets whether the answer shows that the client speaks to one session of a server that can be trusted, for as long as the connection
    /// is open: what was looked at need not be looked at again (<see cref="LockRequest.IsDirect"/>), and a driver may prepare commands
    /// (<see cref="LockStatement.MayPrepare"/>). False where that is of no use.
    /// </summary>
    public bool IsDirect { get; init; }

    /// <summary>
    /// Gets whether the grant may have come after a wait that leaves a hold of its own to a transaction which the lock does not know, so
    /// that the release must look for it (<see cref="LockRequest.AfterWait"/>).
    /// </summary>
    public bool HasWaited { get; init; }
}
