using System.Data.Common;
using Npgsql;

namespace WebService;

/// <summary>What must not be done twice at once.</summary>
internal static class Work
{
    public static async Task DoAsync(DbDataSource database, string job, CancellationToken lost)
    {
        // A lock that is lost ends the work: somebody else may have begun it.
        await using var begin = database.CreateCommand("insert into runs (job) values ($1) returning id");
        begin.Parameters.Add(new NpgsqlParameter<string> { TypedValue = job });
        var id = (long)(await begin.ExecuteScalarAsync(lost))!;
        await using var end = database.CreateCommand("update runs set ended = clock_timestamp() where id = $1");
        end.Parameters.Add(new NpgsqlParameter<long> { TypedValue = id });
        await end.ExecuteNonQueryAsync(lost);
    }
}
