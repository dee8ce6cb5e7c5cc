using System.Data.Common;

namespace DbLock.Cli;

/// <summary>Who holds the locks of given keys, on the engines that do not tell of all locks.</summary>
internal static class KeyHolders
{
    private static readonly string[] Columns =
    [
        "pid", "type", "key", "mode", "waiting", "user", "application", "client", "database", "state", "state_s", "query", "partial",
        "held_s", "slot", "host", "process", "since", "until", "token", "note",
    ];

    private static readonly string[] Important =
        ["pid", "key", "waiting", "state", LockRows.InWords, "user", "client", "application", "state_s", "type"];

    /// <summary>Writes a row for each holder, of a session's lock or a lease.</summary>
    /// <exception cref="UnavailableException">The server hides the holders from this user.</exception>
    public static async Task ListAsync(
        Database database, IReadOnlyList<LockKey> keys, string format, bool wide, CancellationToken cancellationToken)
    {
        var connection = await database.OpenAsync(cancellationToken).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            var holders = database is SqliteDatabase
                ? [] : await AskAsync(database, connection, keys, cancellationToken).ConfigureAwait(false);
            var leases = await LeasesAsync(database, connection, keys, cancellationToken).ConfigureAwait(false);
            object?[][] rows =
            [
                .. holders.Select(one => Row(one.Key, one.Holder, one.Waiting)),
                .. leases.Select(lease => LeaseRows.Row(lease, connection.Database, Columns)),
            ];
            Output.Write(format, Columns, rows, wide ? null : Important);
        }
    }

    /// <summary>Asks who holds the locks of keys.</summary>
    /// <exception cref="UnavailableException">The server hides the holders from this user.</exception>
    public static async Task<List<(LockKey Key, LockHolder Holder, int Waiting)>> AskAsync(
        Database database, DbConnection connection, IReadOnlyList<LockKey> keys, CancellationToken cancellationToken)
    {
        var all = new List<(LockKey, LockHolder, int)>();
        foreach (var key in keys)
        {
            var holders = await new Lock(connection, key, database.Interface).GetHoldersAsync(cancellationToken).ConfigureAwait(false);
            if (holders.Hidden is not null)
            {
                throw new UnavailableException(holders.ToString());
            }

            all.AddRange(holders.Select(holder => (key, holder, holders.Waiting)));
        }

        return all;
    }

    // A database in which nobody takes leases has no such table, and a user may have no right to read it.
    private static async Task<IReadOnlyList<LockLease>> LeasesAsync(
        Database database, DbConnection connection, IReadOnlyList<LockKey> keys, CancellationToken cancellationToken)
    {
        try
        {
            return await LeaseTable.Default.GetLeasesAsync(
                connection, keys.Count == 0 ? null : keys, database.Interface, cancellationToken).ConfigureAwait(false);
        }
        catch (LockException)
        {
            return [];
        }
    }

    private static object?[] Row(LockKey key, LockHolder holder, int waiting) => [.. Columns.Select(column => column switch
    {
        "pid" => holder.Session?.Id,
        "type" => "session",
        "key" => key.Name,
        "mode" => holder.Shared ? "Share" : "Exclusive",
        "waiting" => waiting,
        "user" => holder.Session?.User,
        "application" => holder.Session?.Application,
        "client" => holder.Session?.Client,
        "database" => holder.Session?.Database,
        "state" => holder.Session?.State,
        "state_s" => LockRows.Seconds(holder.Session?.StateAge),
        "query" => holder.Session?.Query,
        "partial" => holder.Session?.IsPartial ?? false,
        "held_s" => LockRows.Seconds(holder.HeldFor),
        _ => (object?)null,
    })];
}
