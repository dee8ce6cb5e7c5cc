using System.Data.Common;
using System.Diagnostics;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>
/// Cancels the statements, or ends the sessions, of those who hold the locks of given keys, on the engines that do not tell of all locks.
/// </summary>
internal sealed class KeyClear(Database database, PgSignal signal)
{
    private static readonly string[] Columns = ["pid", "key", "outcome", "user", "client", "state", "state_s", "query"];
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(50);

    /// <summary>Shows the sessions, asks, and does it.</summary>
    /// <returns>The exit code: whether any of them is left.</returns>
    public async Task<int> RunAsync(
        IReadOnlyList<LockKey> keys, int[] pids, TimeSpan grace, bool yes, bool dry, string format, CancellationToken cancellationToken)
    {
        UsageException.ThrowIf(
            database is SqliteDatabase,
            "SQLite has no sessions that could be ended: a lease ends by itself, or when its row is given an earlier end (update "
            + "dblock_leases set expires = 0 where key = …)");
        UsageException.ThrowIf(
            signal == PgSignal.Cancel && database is not MySqlDatabase,
            $"{database.Engine} cancels no statement of another session: dblock terminate ends the session");
        var asks = ClearCommand.Asks(yes, dry, format);
        var connection = await database.OpenAsync(cancellationToken).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            var found = (await KeyHolders.AskAsync(database, connection, keys, cancellationToken).ConfigureAwait(false))
                .Where(one => one.Holder.Session is { } session && (pids.Length == 0 || pids.Contains((int)session.Id)))
                .ToList();
            List<long> ids = [.. found.Select(one => one.Holder.Session!.Id).Distinct()];
            if (ids.Count == 0 || dry)
            {
                Write(format, found, _ => "Planned");
                return ExitCode.Ok;
            }

            if (asks)
            {
                Write(format, found, _ => "Planned");
                var verb = signal == PgSignal.Cancel ? "Cancel" : "Terminate";
                if (!ClearCommand.AskToDo(verb, ids.Count))
                {
                    Dblock.Say("nothing was done");
                    return ExitCode.NotDone;
                }
            }

            foreach (var id in ids)
            {
                await KillAsync(connection, id, cancellationToken).ConfigureAwait(false);
            }

            var left = await LeftAsync(connection, keys, ids, grace, cancellationToken).ConfigureAwait(false);
            Write(format, found, id => left.Contains(id) ? "Left" : "Gone");
            return left.Count == 0 ? ExitCode.Ok : ExitCode.NotDone;
        }
    }

    // A session that has ended by itself meanwhile is no failure: who is left is asked afterwards.
    private async Task KillAsync(DbConnection connection, long id, CancellationToken cancellationToken)
    {
        var command = connection.CreateCommand();
        await using (command.ConfigureAwait(false))
        {
            command.CommandText = string.Create(
                CultureInfo.InvariantCulture, $"kill {(signal == PgSignal.Cancel ? "query " : "")}{id}");
            try
            {
                await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (DbException e)
            {
                Dblock.Say(string.Create(CultureInfo.InvariantCulture, $"session {id}: {e.Message}"));
            }
        }
    }

    // Returns those of the sessions that hold any of the locks when the grace is over.
    private async Task<List<long>> LeftAsync(
        DbConnection connection, IReadOnlyList<LockKey> keys, List<long> ids, TimeSpan grace, CancellationToken cancellationToken)
    {
        for (var start = Stopwatch.GetTimestamp(); ;)
        {
            var holders = await KeyHolders.AskAsync(database, connection, keys, cancellationToken).ConfigureAwait(false);
            List<long> left = [.. ids.Where(id => holders.Any(one => one.Holder.Session?.Id == id))];
            if (left.Count == 0 || Stopwatch.GetElapsedTime(start) > grace)
            {
                return left;
            }

            await Task.Delay(Look, cancellationToken).ConfigureAwait(false);
        }
    }

    private static void Write(string format, List<(LockKey Key, LockHolder Holder, int Waiting)> found, Func<long, string> outcome)
    {
        if (Output.IsTable(format) && found.Count == 0)
        {
            Console.Out.WriteLine("Nothing matches.");
            return;
        }

        Output.Write(format, Columns, [.. found.Select(one => one.Holder.Session!).Zip(found).Select(pair => (object?[])
        [
            pair.First.Id, pair.Second.Key.Name, outcome(pair.First.Id), pair.First.User, pair.First.Client, pair.First.State,
            LockRows.Seconds(pair.First.StateAge), pair.First.Query,
        ])]);
    }
}
