using System.Data.Common;
using Microsoft.Data.Sqlite;
using static DbLock.Cli.Finding;

namespace DbLock.Cli;

/// <summary>Examines a file of SQLite's.</summary>
internal static class SqliteExamination
{
    private static readonly Version Oldest = new(3, 33);

    private const string Questions = """
        select sqlite_version(), (select count(*) from sqlite_master where name = 'dblock_leases'),
          (select journal_mode from pragma_journal_mode)
        """;

    public static async Task<IEnumerable<Finding>> RunAsync(DbConnection connection, CancellationToken cancellationToken)
    {
        // Else each question waits for half a minute for who writes.
        ((SqliteConnection)connection).DefaultTimeout = 1;
        var writes = await WriteAsync(connection, cancellationToken).ConfigureAwait(false);
        try
        {
            return [.. await Examination.AskAsync(connection, Questions, Read, cancellationToken).ConfigureAwait(false), writes];
        }
        catch (SqliteException) when (writes.Result != Good)
        {
            // What keeps it from being written to keeps it from being read.
            return [writes];
        }
    }

    // What is written is what is there, and it is taken back. It needs the journal, so that it also shows whether the folder can be
    // written to.
    private static async Task<Finding> WriteAsync(DbConnection connection, CancellationToken cancellationToken)
    {
        const string Check = "writes";
        const int Busy = 5; // SQLITE_BUSY, https://www.sqlite.org/rescode.html
        try
        {
            var version = await Database.AskAsync(connection, "pragma user_version", cancellationToken).ConfigureAwait(false);
            await Database.AskAsync(connection, $"begin immediate; pragma user_version = {version}; rollback", cancellationToken)
                .ConfigureAwait(false);
            return new(Check, Good, "the file takes writes", null);
        }
        catch (SqliteException e) when (e.SqliteErrorCode == Busy)
        {
            return new(Check, Warning, "another program writes to the file, and has not ended within a second",
                "leases wait for it as for one another: let it write in short transactions, or give the leases a file of their own");
        }
        catch (SqliteException e)
        {
            return new(Check, Error, $"the file takes no writes: {e.Message}",
                "let this user write to the file and to its folder, where SQLite keeps its journal; leave Mode=ReadOnly out");
        }
    }

    private static IEnumerable<Finding> Read(DbDataReader reader)
    {
        var version = reader.GetString(0);
        yield return Version.Parse(version) >= Oldest
            ? new("engine", Good, $"SQLite {version}", null)
            : new("engine", Error, $"SQLite {version}", "leases need 3.33 or later: take the .NET tool, which brings its own");
        yield return reader.GetInt64(1) > 0
            ? new("leases", Good, "there is the table of leases", null)
            : new("leases", Warning, "there is no table of leases", "dblock run --lease makes it, or dblock lease-table");
        yield return reader.GetString(2) == "wal"
            ? new("journal", Good, "readers and the writer are out of each other's way", null)
            : new("journal", Warning, $"the journal's mode is {reader.GetString(2)}",
                "pragma journal_mode = wal makes leases faster, and keeps readers out of their way");
    }
}
