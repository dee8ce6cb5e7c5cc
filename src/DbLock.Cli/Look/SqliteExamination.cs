using System.Data.Common;
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

    public static async Task<IEnumerable<Finding>> RunAsync(DbConnection connection, CancellationToken cancellationToken) =>
        await Examination.AskAsync(connection, Questions, Read, cancellationToken).ConfigureAwait(false);

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
