using System.Globalization;

namespace DbLock;

/// <summary>Whether PostgreSQL's advisory locks can be trusted over a connection, and the exceptions where they cannot.</summary>
internal static class PostgreSqlTrust
{
    public const string Locks = PostgreSqlSessions.OwnLocks;

    /// <summary>The parts of a CASE that check whether the server's locks can be trusted at all.</summary>
    public static readonly string Untrusted = string.Create(
        CultureInfo.InvariantCulture,
        $"  when pg_catalog.pg_is_in_recovery() then {PostgreSqlAnswer.Standby}\n"
        + $"  when pg_catalog.version() like '%CockroachDB%' then {PostgreSqlAnswer.FakeLocks}\n");

    /// <summary>
    /// SQL of a fencing token. It consists of the timeline, which grows with each failover, the number of this transaction, and room for
    /// grants in memory (<see cref="LockPool"/>). The transaction gets its number after the grant. It must write something, and its commit
    /// must reach the disk: otherwise a crash would let the number be given again (tried).
    /// </summary>
    /// <remarks>
    /// Functions: https://www.postgresql.org/docs/current/functions-admin.html, https://www.postgresql.org/docs/current/functions-info.html
    /// </remarks>
    public const string Token = """
        case when pg_catalog.current_setting('synchronous_commit') = 'off'
            and pg_catalog.set_config('synchronous_commit', 'local', true) is null then null
          when pg_catalog.pg_logical_emit_message(true, 'dblock'::pg_catalog.text, ''::pg_catalog.text) is null then null
          else (('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint << 50)
            | (pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint << 10) end
        """;

    /// <summary>Throws when the client cannot tell its session, so that nobody knows whether two statements reach the same one.</summary>
    public static void CheckSession(int? sessionId)
    {
        if (sessionId == ILockDriver.HiddenSession)
        {
            throw new LockException(
                "The connection does not show its session on the server (a wrapper that cannot be seen through, or a provider without "
                + "ProcessID), so that a connection pooler between could give one lock to two clients unnoticed. Make the lock on the "
                + "inner connection, or use LockScope.Transaction, or set LockOptions.TrustPooler if each connection is known to keep "
                + "one session.");
        }
    }

    /// <summary>Returns the exception for a negative code; null for any other answer.</summary>
    public static LockException? Refusal(long code) => code switch
    {
        PostgreSqlAnswer.Standby => OnStandby(),
        PostgreSqlAnswer.FakeLocks => new LockException(
            "This server is CockroachDB, whose session-level advisory locks answer true and lock nothing. Lock on a PostgreSQL server "
            + "instead."),
        PostgreSqlAnswer.Pooler => new LockException(
            "A connection pooler (or Npgsql's Multiplexing) stands between this program and PostgreSQL, and could give one lock to two "
            + "clients, as it does in transaction mode. Connect to the server directly, or use LockScope.Transaction, or set "
            + "LockOptions.TrustPooler (of a pool LockPoolOptions.TrustPooler) if the pooler is in session mode."),
        PostgreSqlAnswer.Numbered => new LockException(
            "The connection is in a transaction that the lock does not know, whose number is older than the grant would be, so that it "
            + "is no fencing token. Acquire before the transaction begins."),
        _ => null,
    };

    public static LockException OnStandby() => new(
        "This server is a hot standby: its advisory locks are its own, and the primary would give the same lock to somebody else. "
        + "Connect to the primary (Npgsql: Target Session Attributes=primary).");
}
