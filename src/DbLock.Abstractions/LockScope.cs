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
}
