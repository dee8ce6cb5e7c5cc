using System.Data.Common;

namespace DbLock.Cli;

/// <summary>Who holds the locks of given keys, on the engines that do not tell of all locks.</summary>
internal static class KeyHolders
{
    private static readonly string[] Columns =
        ["pid", "key", "mode", "waiting", "user", "application", "client", "database", "state", "state_s", "query", "partial"];

    private static readonly string[] Important = ["pid", "key", "waiting", "state", "user", "client", "query", "application", "state_s"];

    /// <summary>Writes a row for each holder.</summary>
    /// <exception cref="UnavailableException">The server hides the holders from this user.</exception>
    public static async Task ListAsync(
        Database database, IReadOnlyList<LockKey> keys, string format, bool wide, CancellationToken cancellationToken)
    {
        var connection = await database.OpenAsync(cancellationToken).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            var holders = await AskAsync(database, connection, keys, cancellationToken).ConfigureAwait(false);
            Output.Write(format, Columns, [.. holders.Select(one => Row(one.Key, one.Holder, one.Waiting))], wide ? null : Important);
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

    private static object?[] Row(LockKey key, LockHolder holder, int waiting) =>
    [
        holder.Session?.Id, key.Name, holder.Shared ? "Share" : "Exclusive", waiting, holder.Session?.User, holder.Session?.Application,
        holder.Session?.Client, holder.Session?.Database, holder.Session?.State, LockRows.Seconds(holder.Session?.StateAge),
        holder.Session?.Query, holder.Session?.IsPartial ?? false,
    ];
}
