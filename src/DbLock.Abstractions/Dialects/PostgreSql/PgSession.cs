namespace DbLock;

/// <summary>A session of a PostgreSQL server, as <c>pg_stat_activity</c> shows it to the role that asks.</summary>
/// <remarks>
/// Source: <see href="https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW"/>.
/// <see cref="LockSession.State"/> is <c>active</c>, <c>idle</c>, <c>idle in transaction</c> and so on, <see cref="LockSession.Client"/> is
/// <c>[local]</c> for a Unix socket, and <see cref="LockSession.Query"/> has 1 KB by default, and is null in a database of another
/// encoding. The server shows other roles' activity to superusers and to members of <c>pg_read_all_stats</c> alone
/// (<see cref="LockSession.IsPartial"/>).
/// </remarks>
public sealed record PgSession : LockSession
{
    /// <summary>Gets the process id of the backend, which is the session's <see cref="LockSession.Id"/>.</summary>
    public int Pid => (int)Id;

    /// <summary>Gets the process id of the leader whose parallel worker this is; null for all others.</summary>
    public int? LeaderPid { get; init; }

    /// <summary>
    /// Gets the kind of process: <c>client backend</c>, <c>walsender</c>, <c>autovacuum worker</c> and so on; null when hidden.
    /// </summary>
    public string? BackendType { get; init; }

    /// <summary>Gets how long its transaction has been open; null when none is, and when hidden.</summary>
    public TimeSpan? TransactionAge { get; init; }

    /// <summary>Gets whether its role is a superuser.</summary>
    public bool IsSuperuser { get; init; }

    /// <summary>Gets the names of locks that the session shows, as they are written there.</summary>
    internal IEnumerable<string> Written => new[] { ToldWritten, CommentWritten }.OfType<string>();

    internal override bool IsWatched => base.IsWatched || PostgreSqlSessions.IsQuestionOfWatch(Query);

    internal override string Hidden => "whose activity is hidden from this role (grant pg_read_all_stats to see it)";

    /// <summary>
    /// Says whether the session's application is one of some names. Where its name was cut, because a lock's name stands after it, the
    /// beginning must match.
    /// </summary>
    internal bool IsOf(IReadOnlyList<string> applications) => Application is { } application && applications.Any(one =>
        one == application || one == $"{application} {Told}"
        || (Told is not null && ToldName.IsCut(application) && one.StartsWith(application[..^2], StringComparison.Ordinal)));

    /// <summary>
    /// Returns the beginning of a lock's name, if the session shows one that was cut; null otherwise. The comment of a waiting session
    /// names the lock that it waits for, so it is not used for the locks that the session holds.
    /// </summary>
    internal string? NameOf(LockKey key, bool isGranted) =>
        (ToldWritten ?? (isGranted ? null : CommentWritten)) is { } written && ToldName.IsCut(written) && !ToldName.Fits(written, key)
            ? ToldName.InWords(written)
            : null;

    /// <summary>Returns it in words: <c>pid 4711 (application 'worker-3', user 'app', 10.0.0.7)</c>.</summary>
    public override string ToString() => InWords("pid", BackendType ?? "");
}
