using System.Data.Common;

namespace DbLock;

/// <summary>What a server in memory answers in place of a lock, with the SQLSTATE that PostgreSQL has for it.</summary>
internal sealed class InMemoryException(string message, string sqlState) : DbException(message)
{
    public const string Deadlock = "40P01";
    public const string SessionEnded = "57P01";

    public override string? SqlState => sqlState;
}
