namespace DbLock;

/// <summary>A session of a PostgreSQL server, as <c>pg_stat_activity</c> shows it to the role that asks.</summary>
/// <remarks>
/// Source: <see href="https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW"/>. Ages are by the
/// server's clock.
/// </remarks>
public sealed record PgSession
{
    /// <summary>
    /// What <c>pg_locks</c> is made of, for questions about the own session: a role may be kept from reading the view, and a wait that
    /// fails must be undone for it as well.
    /// </summary>
    internal const string OwnLocks = "pg_catalog.pg_lock_status()";

    /// <summary>What every question has that is asked of a session of the lock's own, after the session that is expected.</summary>
    internal const string OwnSession = " = pg_catalog.pg_backend_pid()";

    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    /// <summary>
    /// Returns a text as a client can read it: a database in SQL_ASCII has bytes of any encoding, of which those that are not valid in the
    /// client's would spoil the whole answer. There each byte beyond ASCII is a question mark.
    /// </summary>
    internal static string Clean(string text) =>
        $"case when pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'"
        + $" then pg_catalog.regexp_replace({text}, '[^[:ascii:]]', '?', 'g') else {text} end";

    // Every query that shows sessions joins this: one row for each process of the server. A query of a database in another encoding comes
    // as the bytes that it is: taken for text, one of them would spoil the whole answer.
    internal const string Sql = """
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
    /// Gets the process id of the backend. The system uses it again after the session's end: only with <see cref="BackendStart"/> it names
    /// one session.
    /// </summary>
    public required int Pid { get; init; }

    /// <summary>Gets the process id of the leader whose parallel worker this is; null for all others.</summary>
    public int? LeaderPid { get; init; }

    /// <summary>Gets when the session began; null when it is hidden (<see cref="IsPartial"/>).</summary>
    public DateTimeOffset? BackendStart { get; init; }

    /// <summary>
    /// Gets the kind of process: <c>client backend</c>, <c>walsender</c>, <c>autovacuum worker</c> and so on; null when hidden.
    /// </summary>
    public string? BackendType { get; init; }

    /// <summary>Gets the database; null for a process that has none.</summary>
    public string? Database { get; init; }

    /// <summary>Gets the role that logged in; null for a process that has none.</summary>
    public string? User { get; init; }

    /// <summary>
    /// Gets the application_name, without the lock that DbLock tells there (<see cref="LockName"/>); null when none was given.
    /// </summary>
    public string? Application { get; init; }

    /// <summary>
    /// Gets the client's address, or <c>[local]</c> for a Unix socket; null when hidden, and for a process without a client.
    /// </summary>
    public string? Client { get; init; }

    /// <summary>Gets what it does: <c>active</c>, <c>idle</c>, <c>idle in transaction</c> and so on; null when hidden.</summary>
    public string? State { get; init; }

    /// <summary>
    /// Gets the name of the lock that the session says it holds or waits for (<see cref="LockOptions.ShowName"/>): in its application_name,
    /// or in a comment before its query. One that
    /// ends with two dots was cut; several have commas between them. Null when it says none. It is the session's word, which nobody has
    /// examined.
    /// </summary>
    public string? LockName => (ToldWritten ?? CommentWritten) is { } written ? ToldName.InWords(written) : null;

    /// <summary>
    /// Gets since when the session says it holds <see cref="LockName"/>, by the server's clock, to the second and never too early; null
    /// when it does not say, and when that cannot be.
    /// </summary>
    public DateTimeOffset? LockSince =>
        ToldName.Read(Told).Since is { } since && since >= BackendStart.GetValueOrDefault() && since <= Clock + Second ? since : null;

    /// <summary>
    /// Gets the text of the running query, or of the last one, as far as the server keeps it (1 KB by default); null when hidden, and in a
    /// database of another encoding.
    /// </summary>
    public string? Query { get; init; }

    /// <summary>Gets how long ago the session began; null when hidden.</summary>
    public TimeSpan? SessionAge { get; init; }

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

    /// <summary>Gets what DbLock has added to the application_name; null for nothing.</summary>
    internal string? Told { get; init; }

    /// <summary>Gets the server's clock when it was asked.</summary>
    internal DateTimeOffset Clock { get; init; }

    /// <summary>
    /// Gets the name of the lock that its application_name tells, as it is written there: such a session does nothing else than hold it or
    /// wait for it.
    /// </summary>
    internal string? ToldWritten => ToldName.Read(Told).Written;

    /// <summary>Gets the name of the lock in the comment before its query, as it is written there.</summary>
    internal string? CommentWritten => ToldName.ReadComment(Query);

    /// <summary>Gets the names that it tells, as they are written.</summary>
    internal IEnumerable<string> Written => new[] { ToldWritten, CommentWritten }.OfType<string>();

    /// <summary>
    /// Gets whether the age of its state says nothing of how long it has held its locks, because it asks again and again whether it does.
    /// </summary>
    internal bool IsWatched => ToldName.IsOfPool(Told) || (Query is not null
        && (Query.Contains(OwnLocks, StringComparison.Ordinal) || Query.Contains(OwnSession, StringComparison.Ordinal)));

    /// <summary>
    /// Says whether it is one of some applications; of a name that was cut to tell a lock after it the beginning will do.
    /// </summary>
    internal bool IsOf(IReadOnlyList<string> applications) => Application is { } application && applications.Any(one =>
        one == application || one == $"{application} {Told}"
        || (Told is not null && ToldName.IsCut(application) && one.StartsWith(application[..^2], StringComparison.Ordinal)));

    /// <summary>Returns how long it has held a lock by its own word; null when it says nothing of that one.</summary>
    internal TimeSpan? HeldFor(LockKey key) =>
        LockSince is { } since && ToldName.Fits(ToldWritten!, key)
            ? TimeSpan.FromSeconds(Math.Max(0, Math.Floor((Clock - since).TotalSeconds)))
            : null;

    /// <summary>
    /// Returns the beginning of a lock's name, where it tells one that was cut; null otherwise. The comment of a session that waits is that
    /// of what it waits for, while what it holds may be
    /// another's.
    /// </summary>
    internal string? NameOf(LockKey key, bool isGranted) =>
        (ToldWritten ?? (isGranted ? null : CommentWritten)) is { } written && ToldName.IsCut(written) && !ToldName.Fits(written, key)
            ? ToldName.InWords(written)
            : null;

    /// <summary>Returns what it does and how long it has, in words after a name.</summary>
    internal string Doing() => this switch
    {
        { IsWatched: true, SessionAge: { } age } => $", whose session began {age.InWords()} ago",
        { State: { } state, StateAge: { } age } => $", {state} for {age.InWords()}",
        _ => "",
    };

    /// <summary>Returns it in words: <c>pid 4711 (application 'worker-3', user 'app', 10.0.0.7)</c>.</summary>
    public override string ToString()
    {
        string?[] known = [Application is null ? null : $"application '{Application}'", User is null ? BackendType : $"user '{User}'",
            Client];
        var shown = string.Join(", ", known.Where(part => part is not null));
        return shown.Length == 0 ? $"pid {Pid}" : $"pid {Pid} ({shown})";
    }
}
