namespace DbLock;

/// <summary>What PostgreSQL answers to an acquire, beside 1 for a grant and 0 for none, a token and a transaction's number.</summary>
internal static class PostgreSqlAnswer
{
    /// <summary>The server is a hot standby.</summary>
    public const int Standby = -1;

    /// <summary>The server's locks lock nothing.</summary>
    public const int FakeLocks = -2;

    /// <summary>A pooler stands between.</summary>
    public const int Pooler = -3;

    /// <summary>The transaction has its number already, so that a token would be older than the grant.</summary>
    public const int Numbered = -4;

    /// <summary>
    /// The grant came after a wait, and the lock that the wait was for is the transaction's until it ends. The release answers the same
    /// where that is so still.
    /// </summary>
    public const int AfterWait = 2;

    /// <summary>The transaction holds the lock already.</summary>
    public const int AlreadyHeld = 3;
}
