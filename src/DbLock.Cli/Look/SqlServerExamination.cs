using System.Data.Common;
using static DbLock.Cli.Finding;

namespace DbLock.Cli;

/// <summary>Examines a connection to SQL Server.</summary>
internal static class SqlServerExamination
{
    private const string Questions = """
        select @@version, system_user, cast(databasepropertyex(db_name(), 'Updateability') as nvarchar(20)),
          coalesce(has_perms_by_name(null, null, 'VIEW SERVER STATE'), 0)
            + coalesce(has_perms_by_name(null, null, 'VIEW SERVER PERFORMANCE STATE'), 0)
            + case when serverproperty('EngineEdition') = 5
              then coalesce(has_perms_by_name(db_name(), 'DATABASE', 'VIEW DATABASE STATE'), 0) else 0 end,
          coalesce(object_id(N'dblock_fencing', N'SO'), 0)
        """;

    public static async Task<IEnumerable<Finding>> RunAsync(DbConnection connection, CancellationToken cancellationToken) =>
        await Examination.AskAsync(connection, Questions, Read, cancellationToken).ConfigureAwait(false);

    private static IEnumerable<Finding> Read(DbDataReader reader)
    {
        yield return new("engine", Good, reader.GetString(0).Split('\n')[0].Trim(), null);
        yield return reader.IsDBNull(2) || reader.GetString(2) != "READ_WRITE"
            ? new("replica", Error, "the database is read-only, as on a secondary, whose locks are its own",
                "connect to the primary: leave Application Intent=ReadOnly out")
            : new("replica", Good, "the database takes writes", null);
        yield return reader.GetInt32(3) > 0
            ? new("right to see", Good, $"login {reader.GetString(1)} sees who holds a lock", null)
            : new("right to see", Warning, $"who holds a lock is hidden from {reader.GetString(1)}",
                "grant VIEW SERVER STATE to it, or on Azure VIEW DATABASE STATE");
        yield return reader.GetInt32(4) != 0
            ? new("fencing", Good, "tokens come from the sequence dblock_fencing", null)
            : new("fencing", Warning, "there are no fencing tokens in this database",
                "create sequence dblock_fencing as bigint start with 1 increment by 1, if what is locked looks at tokens");
    }
}
