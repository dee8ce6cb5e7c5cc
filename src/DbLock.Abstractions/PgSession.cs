namespace DbLock;

/// <summary>A session of a PostgreSQL server, as <c>pg_stat_activity</c> shows it to the role that asks.</summary>
/// <remarks>Source: <see href="https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW"/>. Ages are by the server's clock.</remarks>
public sealed record PgSession
{
    /// <summary>
    /// Returns a text as a client can read it: a database in SQL_ASCII has bytes of any encoding, of which those that are not valid in the client's would
    /// spoil the whole answer. There each byte beyond ASCII is a question mark.
    /// </summary>
    internal static string Clean(string text) =>
        $"case when pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'"
        + $" then pg_catalog.regexp_replace({text}, '[^[:ascii:]]', '?', 'g') else {text} end";

    // Every query that shows sessions joins this: one row for each process of the server. A query of a database in another encoding comes as the bytes that it is:
    // taken for text, one of them would spoil the whole answer.
    internal const string Sql = """
        select a.pid, a.leader_pid, a.backend_start, a.backend_type, a.datname as database, a.usename as "user", nullif(a.application_name, '') as application,
          case when a.client_addr is not null then pg_catalog.host(a.client_addr) when a.client_port = -1 then '[local]' end as client,
          a.state,
          case when a.backend_start is not null and coalesce(d.encoding = (select o.encoding from pg_catalog.pg_database as o where o.datname = pg_catalog.current_database()), true)
            then a.query end as query,
          extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::double precision as transaction_age,
          extract(epoch from pg_catalog.clock_timestamp() - a.state_change)::double precision as state_age,
          coalesce(r.rolsuper, false) as is_superuser, a.pid = pg_catalog.pg_backend_pid() as is_own, a.backend_start is null as is_partial
        from pg_catalog.pg_stat_activity as a
        left join pg_catalog.pg_roles as r on r.oid = a.usesysid
        left join pg_catalog.pg_database as d on d.oid = a.datid
        """;

    /// <summary>Gets the process id of the backend. The system uses it again after the session's end: only with <see cref="BackendStart"/> it names one session.</summary>
    public required int Pid { get; init; }

    /// <summary>Gets the process id of the leader whose parallel worker this is; null for all others.</summary>
    public int? LeaderPid { get; init; }

    /// <summary>Gets when the session began; null when it is hidden (<see cref="IsPartial"/>).</summary>
    public DateTimeOffset? BackendStart { get; init; }

    /// <summary>Gets the kind of process: <c>client backend</c>, <c>walsender</c>, <c>autovacuum worker</c> and so on; null when hidden.</summary>
    public string? BackendType { get; init; }

    /// <summary>Gets the database; null for a process that has none.</summary>
    public string? Database { get; init; }

    /// <summary>Gets the role that logged in; null for a process that has none.</summary>
    public string? User { get; init; }

    /// <summary>Gets the application_name; null when none was given.</summary>
    public string? Application { get; init; }

    /// <summary>Gets the client's address, or <c>[local]</c> for a Unix socket; null when hidden, and for a process without a client.</summary>
    public string? Client { get; init; }

    /// <summary>Gets what it does: <c>active</c>, <c>idle</c>, <c>idle in transaction</c> and so on; null when hidden.</summary>
    public string? State { get; init; }

    /// <summary>Gets the text of the running query, or of the last one, as far as the server keeps it (1 KB by default); null when hidden, and in a database of another encoding.</summary>
    public string? Query { get; init; }

    /// <summary>Gets how long its transaction has been open; null when none is, and when hidden.</summary>
    public TimeSpan? TransactionAge { get; init; }

    /// <summary>Gets how long it has been in its <see cref="State"/>; null when hidden.</summary>
    public TimeSpan? StateAge { get; init; }

    /// <summary>Gets whether its role is a superuser.</summary>
    public bool IsSuperuser { get; init; }

    /// <summary>Gets whether this is the session that asked.</summary>
    public bool IsOwn { get; init; }

    /// <summary>
    /// Gets whether the server hides this session from the role that asked: it shows other roles' activity to superusers and to members of
    /// <c>pg_read_all_stats</c> alone.
    /// </summary>
    public bool IsPartial { get; init; }

    /// <summary>Returns it in words: <c>pid 4711 (application 'worker-3', user 'app', 10.0.0.7)</c>.</summary>
    public override string ToString()
    {
        string?[] known = [Application is null ? null : $"application '{Application}'", User is null ? BackendType : $"user '{User}'", Client];
        var shown = string.Join(", ", known.Where(part => part is not null));
        return shown.Length == 0 ? $"pid {Pid}" : $"pid {Pid} ({shown})";
    }
}
