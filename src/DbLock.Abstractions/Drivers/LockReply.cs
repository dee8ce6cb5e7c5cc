namespace DbLock.Drivers;

/// <summary>Everything that the answer to <see cref="LockDialect.Acquire"/> tells.</summary>
/// <param name="Outcome">What the answer means.</param>
public readonly record struct LockReply(LockOutcome Outcome)
{
    /// <summary>Gets the fencing token of a grant that was asked for with one (<see cref="LockRequest.Fencing"/>); 0 for none.</summary>
    public long FencingToken { get; init; }

    /// <summary>Gets which of <see cref="LockRequest.Any"/> is held now, counted from 1; 0 for none.</summary>
    public int Taken { get; init; }

    /// <summary>
    /// Gets the number of the transaction that was granted the lock, in transaction scope. It is 0 when the answer does not tell: the
    /// server is asked later, then, whether the present transaction is the same.
    /// </summary>
    public long Transaction { get; init; }

    /// <summary>
    /// Gets whether the answer shows that the client speaks to one session of a server whose locks can be trusted, for as long as the
    /// connection is open. The checks need not be made again then (<see cref="LockRequest.IsDirect"/>), and a driver may prepare commands
    /// (<see cref="LockStatement.MayPrepare"/>). False where neither is of use.
    /// </summary>
    public bool IsDirect { get; init; }

    /// <summary>
    /// Gets whether the grant may have come after a wait that leaves a lock of its own to a transaction which the lock does not know. The
    /// release must check for it then (<see cref="LockRequest.AfterWait"/>).
    /// </summary>
    public bool HasWaited { get; init; }
}
