namespace DbLock;

/// <summary>The SQL that the questions about sessions share, and the meaning of parts of their answers.</summary>
internal static class PostgreSqlSessions
{
    /// <summary>
    /// The function from which the view <c>pg_locks</c> selects, for questions of a session about itself: a role may have no right to read
    /// the view, and its failed waits must be undone, too.
    /// </summary>
    public const string OwnLocks = "pg_catalog.pg_lock_status()";

    /// <summary>
    /// The end of every question whether a lock's own session lives. The number of the expected session stands before it.
    /// </summary>
    public const string OwnSession = " = pg_catalog.pg_backend_pid()";

    // Every query that shows sessions joins this: one row for each process of the server. The statement of a session in a database of
    // another encoding is left out, because its bytes may be no valid text here, and one such byte would make the whole answer fail.
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
    /// Returns SQL for a text that every client can read. A database in SQL_ASCII may have bytes of any encoding, and one that is not valid
    /// in the client's would make the whole answer fail. There each byte beyond ASCII becomes a question mark.
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
