using System.Globalization;
using Npgsql;

namespace DbLock.Cli;

/// <summary>Leases as rows, under the columns of locks.</summary>
internal static class LeaseRows
{
    /// <summary>Stands in the column of the type.</summary>
    public const string Type = "lease";

    // A database in which nobody takes leases has no such table, and a role may have no right to read it.
    private const string Exists = $"""
        select coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('{LeaseTable.DefaultName}'), 'select'), false)
        """;

    /// <summary>Returns the leases of the connection's database that a filter of locks matches.</summary>
    public static async Task<List<LockLease>> GetAsync(
        NpgsqlConnection connection, PgLockFilter filter, CancellationToken cancellationToken)
    {
        // A lease has no session, and nothing waits for it in the server.
        if (filter is not { Pids: null, Relations: null, Users: null, States: null, BlockingOnly: false, Granted: not false }
            or not { MinTransactionAge: null, MinStateAge: null, MinWait: null }
            || (filter.LockTypes is { } types && !types.Contains(Type))
            || (filter.Modes is { } modes && !modes.Contains(PgLockMode.Exclusive))
            || (filter.Databases is { } databases && !databases.Contains(connection.Database)))
        {
            return [];
        }

        using var exists = new NpgsqlCommand(Exists, connection);
        if (await exists.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false) is not true)
        {
            return [];
        }

        var leases = await LeaseTable.Default.GetLeasesAsync(
            connection, filter.Keys, LockInterface.Npgsql, cancellationToken).ConfigureAwait(false);
        return [.. leases.Where(lease => filter.Applications is not { } names || names.Contains(lease.Application))];
    }

    public static object?[] Row(LockLease lease, string database, IReadOnlyList<string> columns) =>
        [.. columns.Select(column => Value(lease, database, column))];

    private static object? Value(LockLease lease, string database, string column) => column switch
    {
        "database" => database,
        "type" => Type,
        "object" => lease.Slot == 0
            ? lease.Name : string.Create(CultureInfo.InvariantCulture, $"{lease.Name} ({lease.Slot})"),
        "mode" => nameof(PgLockMode.Exclusive),
        "granted" => true,
        "held_s" => LockRows.Seconds(lease.IsReleased ? null : lease.Clock - lease.Since),
        "application" => lease.Application,
        "state" => lease.IsReleased ? "released" : "held",
        "key" => lease.Name,
        "partial" => false,
        "slot" => lease.Slot,
        "host" => lease.Host,
        "process" => lease.Process,
        "since" => lease.Since.UtcDateTime.ToString("O", CultureInfo.InvariantCulture),
        "until" => lease.Until.UtcDateTime.ToString("O", CultureInfo.InvariantCulture),
        "token" => lease.Token,
        "note" => lease.Note,
        LockRows.InWords => string.Create(CultureInfo.InvariantCulture, $"{lease}, token {lease.Token}"),
        _ => null,
    };
}
