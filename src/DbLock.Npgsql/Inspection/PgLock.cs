using System.Globalization;

namespace DbLock;

/// <summary>
/// A lock of a PostgreSQL server, held or waited for: a row of <c>pg_locks</c>, with the names of what it locks and the session that it
/// belongs to.
/// </summary>
/// <remarks>Source: <see href="https://www.postgresql.org/docs/current/view-pg-locks.html"/>.</remarks>
public sealed record PgLock
{
    /// <summary>
    /// Gets what kind of thing is locked: <c>relation</c>, <c>advisory</c>, <c>transactionid</c>, <c>tuple</c> and so on.
    /// </summary>
    public required string LockType { get; init; }

    /// <summary>Gets the mode.</summary>
    public required PgLockMode Mode { get; init; }

    /// <summary>Gets whether it is held; false while it is waited for.</summary>
    public required bool Granted { get; init; }

    /// <summary>Gets whether it was taken by the fast path, which weak locks on tables go.</summary>
    public bool FastPath { get; init; }

    /// <summary>Gets the process id of the backend; null for a prepared transaction.</summary>
    public int? Pid { get; init; }

    /// <summary>Gets the session; null for a prepared transaction, and for a session that ended while the server was asked.</summary>
    public PgSession? Session { get; init; }

    /// <summary>Gets the name of the prepared transaction that holds it; null for a session's lock.</summary>
    public string? PreparedTransaction { get; init; }

    /// <summary>Gets the virtual id of the transaction that holds or awaits it.</summary>
    public required string VirtualTransaction { get; init; }

    /// <summary>
    /// Gets the oid of the database of what is locked; 0 for an object that all databases share, null for what belongs to none (a
    /// transaction id).
    /// </summary>
    public uint? DatabaseOid { get; init; }

    /// <summary>Gets the name of that database; null where there is none.</summary>
    public string? Database { get; init; }

    /// <summary>Gets the oid of the relation; null for what is no part of one.</summary>
    public uint? RelationOid { get; init; }

    /// <summary>Gets the relation's schema; null where <see cref="Relation"/> is.</summary>
    public string? Schema { get; init; }

    /// <summary>
    /// Gets the relation's name; null for what is no part of one, and in other databases, whose names cannot be seen from here.
    /// </summary>
    public string? Relation { get; init; }

    /// <summary>
    /// Gets the relation's kind: <c>table</c>, <c>index</c>, <c>view</c> and so on; null where <see cref="Relation"/> is.
    /// </summary>
    public string? RelationKind { get; init; }

    /// <summary>Gets the page within the relation; null for what is no page or row.</summary>
    public int? Page { get; init; }

    /// <summary>Gets the row within the page; null for what is no row.</summary>
    public short? Tuple { get; init; }

    /// <summary>Gets the virtual transaction id that is locked; null for what is none.</summary>
    public string? VirtualXid { get; init; }

    /// <summary>Gets the transaction id that is locked; null for what is none.</summary>
    public uint? TransactionId { get; init; }

    /// <summary>Gets the columns classid, objid and objsubid; null where they are.</summary>
    public PgLocksKey? ObjectKey { get; init; }

    /// <summary>
    /// Gets the key of an advisory lock: one that was given by name, or whose name a session tells (<see cref="LockSession.LockName"/>) and
    /// which has that number; else the number or pair. Null
    /// for other locks, and for the key spaces that extensions keep for themselves.
    /// </summary>
    public LockKey? Key { get; init; }

    /// <summary>Gets how long an advisory lock has been held, as <see cref="LockHolder.HeldFor"/>; null when it is not told.</summary>
    public TimeSpan? HeldFor { get; init; }

    /// <summary>Gets the beginning of its name, which the session tells and nobody can prove; null when there is none.</summary>
    public string? ToldName { get; init; }

    /// <summary>
    /// Gets since when it is waited for; null when it is held, in the first moment of the wait, and before PostgreSQL 14.
    /// </summary>
    public DateTimeOffset? WaitStart { get; init; }

    /// <summary>Gets how long it has been waited for, by the server's clock; null where <see cref="WaitStart"/> is.</summary>
    public TimeSpan? WaitDuration { get; init; }

    /// <summary>How <see cref="Target"/> comes out of a row <c>l</c> of pg_locks.</summary>
    internal const string TargetSql =
        "pg_catalog.concat_ws('/', l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, "
        + "l.objid, l.objsubid)";

    /// <summary>Gets all that tells what is locked: two locks are on the same thing when it is equal.</summary>
    internal string Target { get; init; } = "";

    /// <summary>Gets whether the filter of the question matches.</summary>
    internal bool Matches { get; init; }

    /// <summary>
    /// Gets the processes for which this waits, in the server's own words, which mix holders with those ahead in the queue. Empty when it
    /// was not asked for.
    /// </summary>
    internal IReadOnlySet<int> BlockingPids { get; init; } = new HashSet<int>();

    /// <summary>Gets what the lock belongs to: the processes of a parallel query act as one.</summary>
    internal object Owner => PreparedTransaction ?? (object)(Session?.LeaderPid ?? Pid ?? 0);

    /// <summary>Returns it in words: who, what and since when.</summary>
    public override string ToString()
    {
        var owner = PreparedTransaction is { } name ? $"the prepared transaction '{name}'" : Session?.ToString() ?? $"pid {Pid}";
        return Granted && HeldFor is { } time ? $"{owner} has held {Mode} on {What()} for {time.InWords()}"
            : Granted ? $"{owner} holds {Mode} on {What()}"
            : WaitDuration is { } duration ? $"{owner} has waited {duration.InWords()} for {Mode} on {What()}"
            : $"{owner} waits for {Mode} on {What()}";
    }

    /// <summary>Returns what is locked, in words.</summary>
    internal string What() => this switch
    {
        { Key: { } key, ToldName: { } name } => $"advisory lock '{key}' (by its own word '{name}')",
        { Key: { } key } => $"advisory lock '{key}'",
        { LockType: "relation", Relation: { } } => $"{RelationKind} {Schema}.{Relation}",
        { Relation: { } } => $"a {LockType} of {RelationKind} {Schema}.{Relation}",
        { RelationOid: { } oid } => string.Create(CultureInfo.InvariantCulture, $"{LockType} {oid} of database {Database ?? "(shared)"}"),
        { TransactionId: { } id } => string.Create(CultureInfo.InvariantCulture, $"transaction {id}"),
        { VirtualXid: { } id } => $"transaction {id}",
        { ObjectKey: { } key } => string.Create(CultureInfo.InvariantCulture, $"{LockType} ({key.ClassId}, {key.ObjId}, {key.ObjSubId})"),
        _ => LockType,
    };
}
