using System.Globalization;

namespace DbLock.Cli;

/// <summary>Locks as rows. The names of the columns are a promise.</summary>
internal static class LockRows
{
    /// <summary>The column of a table in which it is said in words what a session does, or who has a lease.</summary>
    public const string InWords = "query";

    /// <summary>Gets the columns of a table, which has little room.</summary>
    public static IReadOnlyList<string> Short { get; } =
        ["pid", "database", "type", "object", "mode", "granted", "wait_s", "user", "application", "state", "state_s", "query"];

    /// <summary>Gets the columns of a table from the most important on: as many are shown as fit the terminal.</summary>
    public static IReadOnlyList<string> Important { get; } =
        ["pid", "object", "mode", "granted", "wait_s", "query", "state", "application", "user", "state_s", "type", "database"];

    /// <summary>Gets all columns.</summary>
    public static IReadOnlyList<string> All { get; } =
    [
        "pid", "database", "type", "object", "mode", "granted", "wait_s", "user", "application", "client", "state", "state_s",
        "transaction_s", "query", "backend_start", "backend_type", "schema", "relation", "key", "classid", "objid", "objsubid",
        "transactionid", "virtualxid", "prepared_transaction", "partial", "held_s",
        "slot", "host", "process", "since", "until", "token", "note",
    ];

    public static object?[] Row(PgLock @lock, IReadOnlyList<string> columns) => [.. columns.Select(column => Value(@lock, column))];

    private static object? Value(PgLock @lock, string column) => column switch
    {
        "pid" => @lock.Pid,
        "database" => @lock.Database ?? @lock.Session?.Database,
        "type" => @lock.LockType,
        "object" => Object(@lock),
        "mode" => @lock.Mode.ToString(),
        "granted" => @lock.Granted,
        "wait_s" => Seconds(@lock.WaitDuration),
        "held_s" => Seconds(@lock.HeldFor),
        "user" => @lock.Session?.User,
        "application" => @lock.Session?.Application,
        "client" => @lock.Session?.Client,
        "state" => @lock.Session?.State,
        "state_s" => Seconds(@lock.Session?.StateAge),
        "transaction_s" => Seconds(@lock.Session?.TransactionAge),
        "query" => @lock.Session?.Query,
        "backend_start" => @lock.Session?.Since?.ToString("O"),
        "backend_type" => @lock.Session?.BackendType,
        "schema" => @lock.Schema,
        "relation" => @lock.Relation,
        "key" => @lock.Key?.Name,
        "classid" => @lock.ObjectKey?.ClassId,
        "objid" => @lock.ObjectKey?.ObjId,
        "objsubid" => @lock.ObjectKey?.ObjSubId,
        "transactionid" => @lock.TransactionId,
        "virtualxid" => @lock.VirtualXid,
        "prepared_transaction" => @lock.PreparedTransaction,
        "partial" => @lock.Session?.IsPartial ?? false,
        "slot" or "host" or "process" or "since" or "until" or "token" or "note" => null, // These a lease has.
        _ => throw new ArgumentOutOfRangeException(nameof(column), column, "There is no such column."),
    };

    private static string Object(PgLock @lock) => @lock switch
    {
        { Key: { } key, ToldName: { } name } => $"{key.Name} ({name})",
        { Key: { } key } => key.Name,
        { Relation: { } name } => $"{@lock.Schema}.{name}",
        { RelationOid: { } oid } => $"oid {oid}",
        { TransactionId: { } id } => id.ToString(CultureInfo.InvariantCulture),
        { VirtualXid: { } id } => id,
        { ObjectKey: { } key } => string.Create(CultureInfo.InvariantCulture, $"{key.ClassId}/{key.ObjId}/{key.ObjSubId}"),
        _ => "",
    };

    public static double? Seconds(TimeSpan? time) => time is { } duration ? Math.Round(duration.TotalSeconds, 3) : null;
}
