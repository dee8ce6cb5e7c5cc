namespace DbLock;

/// <summary>What ends a hold if nobody releases it.</summary>
public enum LockScope
{
    /// <summary>The database session: the lock is held until it is released or the connection ends, whatever transactions do.</summary>
    Session,

    /// <summary>
    /// The transaction in <see cref="Lock.Transaction"/>: the lock ends with its commit or rollback, and cannot be released earlier.
    /// </summary>
    Transaction,

    /// <summary>
    /// Time: the lock is a row of a table (<see cref="LockOptions.LeaseTable"/>) and ends <see cref="LockOptions.Lease"/> after it was last
    /// renewed. It needs no session, so that it passes every connection pooler, and outlives the connection, a restart of the server and a
    /// failover.
    /// </summary>
    Lease,
}
