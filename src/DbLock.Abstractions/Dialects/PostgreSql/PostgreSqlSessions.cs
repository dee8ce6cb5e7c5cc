namespace DbLock;

/// <summary>What the questions about sessions have in common, and what is read from their answers.</summary>
internal static class PostgreSqlSessions
{
    /// <summary>
    /// What <c>pg_locks</c> is made of, for questions about the own session: a role may be kept from reading the view, and a wait that
    /// fails must be undone for it as well.
    /// </summary>
    public const string OwnLocks = "pg_catalog.pg_lock_status()";

    /// <summary>What every question has that is asked of a session of the lock's own, after the session that is expected.</summary>
    public const string OwnSession = " = pg_catalog.pg_backend_pid()";

    // Every query that shows sessions joins this: one row for each process of the server. A query of a database in another encoding comes
    // as the bytes that it is: taken for text, one of them would spoil the whole answer.
    public const string Sql = """
        select a.pid, a.leader_pid, a.backend_start, a.backend_type, a.datname as database, a.usename as "user",
          nullif(a.application_name, '') as application,
          case when a.client_addr is not null then pg_catalog.host(a.client_addr) when a.client_port = -1 then '[local]' end as client,
          a.state,
          case when a.backend_start is not null and coalesce(
              d.encoding = (select o.encoding from pg_catalog.pg_database as o where o.datname = pg_catalog.current_database()), true)
            then a.query end as query,
          extract(epoch from pg_catalog.clock_timestamp() - a.backend_start)::double precision as session_age,
          extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::double precision as transaction_age,
          extract(epoch from pg_catalog.clock_timestamp() - a.state_change)::double precision as state_age,
          coalesce(r.rolsuper, false) as is_superuser, a.pid = pg_catalog.pg_backend_pid() as is_own, a.backend_start is null as is_partial,
          pg_catalog.clock_timestamp() as clock
        from pg_catalog.pg_stat_activity as a
        left join pg_catalog.pg_roles as r on r.oid = a.usesysid
        left join pg_catalog.pg_database as d on d.oid = a.datid
        """;

    /// <summary>
    /// Returns a text as a client can read it: a database in SQL_ASCII has bytes of any encoding, of which those that are not valid in the
    /// client's would spoil the whole answer. There each byte beyond ASCII is a question mark.
    /// </summary>
    public static string Clean(string text) =>
        $"case when pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'"
        + $" then pg_catalog.regexp_replace({text}, '[^[:ascii:]]', '?', 'g') else {text} end";

    /// <summary>
    /// Says whether a session in this state does nothing: <c>idle</c>, <c>idle in transaction</c>, <c>idle in transaction (aborted)</c>.
    /// </summary>
    public static bool IsIdle(string? state) => state?.StartsWith("idle", StringComparison.Ordinal) == true;

    /// <summary>Says whether a statement asks whether its own session still lives or still holds its locks.</summary>
    public static bool IsQuestionOfWatch(string? query) => query is not null
        && (query.Contains(OwnLocks, StringComparison.Ordinal) || query.Contains(OwnSession, StringComparison.Ordinal));
}
