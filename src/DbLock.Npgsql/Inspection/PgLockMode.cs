namespace DbLock;

/// <summary>How strong a lock of PostgreSQL is: what it keeps others from doing.</summary>
/// <remarks>
/// Which modes conflict: <see href="https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES"/>. Advisory locks are
/// <see cref="Exclusive"/> or <see cref="Share"/>.
/// </remarks>
public enum PgLockMode
{
    /// <summary>ACCESS SHARE: taken by SELECT; conflicts with ACCESS EXCLUSIVE alone.</summary>
    AccessShare = 1,

    /// <summary>ROW SHARE: taken by SELECT FOR UPDATE and the like.</summary>
    RowShare,

    /// <summary>ROW EXCLUSIVE: taken by INSERT, UPDATE, DELETE and MERGE.</summary>
    RowExclusive,

    /// <summary>SHARE UPDATE EXCLUSIVE: taken by VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY; conflicts with itself.</summary>
    ShareUpdateExclusive,

    /// <summary>SHARE: taken by CREATE INDEX; nobody changes data meanwhile.</summary>
    Share,

    /// <summary>SHARE ROW EXCLUSIVE: as SHARE, and conflicts with itself.</summary>
    ShareRowExclusive,

    /// <summary>EXCLUSIVE: leaves others only plain reading.</summary>
    Exclusive,

    /// <summary>ACCESS EXCLUSIVE: leaves others nothing; taken by DROP TABLE, TRUNCATE and most of ALTER TABLE.</summary>
    AccessExclusive,

    /// <summary>
    /// SIREAD: what a serializable transaction has read. It conflicts with nothing, nobody waits for it, and it cannot be asked for.
    /// </summary>
    SIRead,
}
