using System.CommandLine;
using Npgsql;

namespace DbLock.Cli;

/// <summary>The commands that look once: <c>dblock list</c> and <c>dblock blocked</c>.</summary>
internal static class LookCommand
{
    public static Command List() => Create(
        "list",
        "Lists the locks of the server, those that are waited for first. Options of one kind add up, options of different kinds must all match. "
            + "Nothing found is an empty list and exit code 0.",
        ShowLocksAsync);

    public static Command Blocked() => Create(
        "blocked",
        "Shows who waits for whom: those who block others and wait for nobody first, and below each those who wait for it. "
            + "The options keep the trees in which a lock matches. Nobody waiting is an empty answer and exit code 0.",
        ShowBlockedAsync);

    public static async Task ShowLocksAsync(NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, string format, CancellationToken cancellationToken)
    {
        var locks = await connection.GetLocksAsync(filter, names, cancellationToken).ConfigureAwait(false);
        var columns = Output.IsTable(format) ? LockRows.Short : LockRows.All;
        Output.Write(format, columns, [.. locks.Select(@lock => LockRows.Row(@lock, columns))]);
    }

    public static async Task ShowBlockedAsync(NpgsqlConnection connection, PgLockFilter filter, LockKey[] names, string format, CancellationToken cancellationToken) =>
        BlockedTree.Write(format, await connection.GetWaitGraphAsync(filter, names, cancellationToken).ConfigureAwait(false));

    private static Command Create(string name, string description, Func<NpgsqlConnection, PgLockFilter, LockKey[], string, CancellationToken, Task> show)
    {
        var connection = ConnectionOption.Create();
        var output = Output.Option();
        var command = new Command(name, description) { connection, output };
        var filter = FilterOptions.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (which, names) = (filter.Filter(parsed), filter.Names(parsed));
            var opened = await ConnectionOption.OpenAsync(ConnectionOption.Resolve(parsed.GetValue(connection)), cancellationToken).ConfigureAwait(false);
            await using (opened.ConfigureAwait(false))
            {
                await show(opened, which, names, parsed.GetValue(output)!, cancellationToken).ConfigureAwait(false);
                return ExitCode.Ok;
            }
        });
        return command;
    }
}
