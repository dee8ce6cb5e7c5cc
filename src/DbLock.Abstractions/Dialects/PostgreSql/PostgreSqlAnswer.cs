namespace DbLock;

/// <summary>
/// The codes that PostgreSQL answers to an acquire. There are also 1 for a grant, 0 for none, a fencing token and a transaction's number.
/// </summary>
internal static class PostgreSqlAnswer
{
    /// <summary>The server is a hot standby.</summary>
    public const int Standby = -1;

    /// <summary>The server accepts the functions of advisory locks and locks nothing (CockroachDB).</summary>
    public const int FakeLocks = -2;

    /// <summary>The session is not the one that the client believes to speak to: a pooler stands between them.</summary>
    public const int Pooler = -3;

    /// <summary>The transaction has its number already, so that a fencing token would be older than the grant.</summary>
    public const int Numbered = -4;

    /// <summary>
    /// The lock was granted after a wait. The wait was for a transaction-level lock, which the transaction keeps until it ends. A release
    /// answers with the same code if that is still so.
    /// </summary>
    public const int AfterWait = 2;

    /// <summary>The transaction holds the lock already.</summary>
    public const int AlreadyHeld = 3;
}
