using System.CommandLine;
using Npgsql;

namespace DbLock.Cli;

/// <summary>The commands that look once: <c>dblock list</c> and <c>dblock blocked</c>.</summary>
internal static class LookCommand
{
    public static Command List() => Create(
        "list",
        "Lists the locks of the server, those that are waited for first, and then the leases in the table dblock_leases of the database. "
        + "Options of one kind add up, options of different kinds must all match. Nothing found is an empty list and exit code 0. On "
        + "MariaDB, MySQL and SQL Server, which do not tell of all locks, it lists who holds those of --key, and on SQLite the leases.",
        ShowLocksAsync,
        withLeases: true);

    public static Command Blocked() => Create(
        "blocked",
        "Shows who waits for whom: those who block others and wait for nobody first, and below each those who wait for it. The options "
        + "keep the trees in which a lock matches. Nobody waiting is an empty answer and exit code 0.",
        ShowBlockedAsync,
        withLeases: false);

    /// <summary>Returns the locks as lines of a table.</summary>
    public static async Task<List<string>> LocksAsync(
        NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, bool wide, CancellationToken cancellationToken)
    {
        var rows = await RowsAsync(connection, filter, names, LockRows.Short, cancellationToken).ConfigureAwait(false);
        return Output.Lines(LockRows.Short, rows, Output.IsTerminal && !wide ? LockRows.Important : null);
    }

    /// <summary>Returns who waits for whom as lines of a tree.</summary>
    public static async Task<List<string>> BlockedAsync(
        NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, bool wide, CancellationToken cancellationToken) =>
        BlockedTree.Lines(await connection.GetWaitGraphAsync(filter, names, cancellationToken).ConfigureAwait(false), wide);

    private static async Task ShowLocksAsync(
        NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, string format, bool wide, CancellationToken cancellationToken)
    {
        if (Output.IsTable(format))
        {
            Output.WriteLines(await LocksAsync(connection, filter, names, wide, cancellationToken).ConfigureAwait(false));
            return;
        }

        var rows = await RowsAsync(connection, filter, names, LockRows.All, cancellationToken).ConfigureAwait(false);
        Output.Write(format, LockRows.All, rows);
    }

    private static async Task<List<object?[]>> RowsAsync(
        NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, IReadOnlyList<string> columns,
        CancellationToken cancellationToken)
    {
        var locks = await connection.GetLocksAsync(filter, names, cancellationToken).ConfigureAwait(false);
        var leases = await LeaseRows.GetAsync(connection, filter, cancellationToken).ConfigureAwait(false);
        return
        [
            .. locks.Select(@lock => LockRows.Row(@lock, columns)),
            .. leases.Select(lease => LeaseRows.Row(lease, connection.Database, columns)),
        ];
    }

    private static async Task ShowBlockedAsync(
        NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, string format, bool wide, CancellationToken cancellationToken) =>
        BlockedTree.Write(format, await connection.GetWaitGraphAsync(filter, names, cancellationToken).ConfigureAwait(false), wide);

    private static Command Create(
        string name, string description, Func<NpgsqlConnection, PgLockFilter, LockKey[], string, bool, CancellationToken, Task> show,
        bool withLeases)
    {
        var connection = ConnectionOption.Create();
        var output = Output.Option();
        var wide = Output.WideOption();
        var command = new Command(name, description) { connection, output, wide };
        var filter = FilterOptions.AddTo(command, withLeases);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            if (name == "list" && ConnectionOption.Database(parsed.GetValue(connection)) is var other and not PostgreSqlDatabase)
            {
                var keys = filter.KeysAlone(parsed, other);
                await KeyHolders.ListAsync(other, keys, parsed.GetValue(output)!, parsed.GetValue(wide), cancellationToken)
                    .ConfigureAwait(false);
                return ExitCode.Ok;
            }

            var database = ConnectionOption.PostgreSql(
                parsed.GetValue(connection), $"dblock {name}", "dblock list --key KEY says who holds a lock, and how many wait");
            var (which, names) = (filter.Filter(parsed), filter.Names(parsed));
            var opened = await database.OpenNpgsqlAsync(cancellationToken).ConfigureAwait(false);
            await using (opened.ConfigureAwait(false))
            {
                FilterOptions.RefuseOtherDatabases(which, opened.Database);
                await show(opened, which, names, parsed.GetValue(output)!, parsed.GetValue(wide), cancellationToken).ConfigureAwait(false);
                return ExitCode.Ok;
            }
        });
        return command;
    }
}
