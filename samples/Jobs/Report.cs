using System.Data.Common;
using Npgsql;
using Quartz;

namespace Jobs;

/// <summary>What is done once in an interval: a row is written, with the number of the process.</summary>
[Once(Seconds)]
internal sealed class Report(DbDataSource database) : IJob
{
    /// <summary>The interval.</summary>
    public const int Seconds = 2;

    /// <summary>Quartz calls this.</summary>
    public async ValueTask Execute(IJobExecutionContext context, CancellationToken cancellationToken) => await MakeAsync(cancellationToken);

    /// <summary>Hangfire calls this.</summary>
    [Once(Seconds)]
    public async Task MakeAsync(CancellationToken cancellationToken)
    {
        await using var write = database.CreateCommand("insert into reports (process) values ($1)");
        write.Parameters.Add(new NpgsqlParameter<int> { TypedValue = Environment.ProcessId });
        await write.ExecuteNonQueryAsync(cancellationToken);
    }
}
