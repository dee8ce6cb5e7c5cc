using System.Diagnostics;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>samples/Jobs: a job that two instances are due to run.</summary>
public sealed class JobTests
{
    [Theory, InlineData("Quartz"), InlineData("Hangfire"), InlineData("BackgroundService")]
    public async Task A_job_that_two_instances_are_due_to_run_runs_once_in_each_interval(string scheduler)
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connectionString = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name }.ConnectionString;
        await using var observer = new NpgsqlConnection(connectionString + ";Pooling=false");
        await observer.OpenAsync();

        // Each report has the time at which its lease was given, which is the only one here.
        await LeaseTable.Default.CreateAsync(observer);
        await observer.ExecuteAsync("""
            create function given() returns timestamptz language sql as 'select taken from dblock_leases';
            create table reports (id bigint generated always as identity, process int not null, given timestamptz not null default given())
            """);
        List<Process> instances = [];
        try
        {
            instances.Add(Start());
            await TestServer.UntilAsync(async () => (long)(await CountAsync())! >= 1, "the first has made a report");
            instances.Add(Start());
            await TestServer.UntilAsync(async () => (long)(await CountAsync())! >= 6, "reports are made");

            // Who is left goes on.
            var last = (int)(await observer.ExecuteAsync("select process from reports order by id desc limit 1"))!;
            instances.Single(instance => instance.Id == last).Kill();
            await TestServer.UntilAsync(async () => (long)(await observer.ExecuteAsync($"select count(*) from reports where process <> {last} and id > (select max(id) from reports where process = {last})"))! >= 2, "the other makes them");
            Assert.Equal(0L, await observer.ExecuteAsync(
                "select count(*) from (select given - lag(given) over (order by id) as gap from reports) as g where gap < interval '1.8 seconds'"));
        }
        finally
        {
            foreach (var instance in instances)
            {
                instance.Kill();
                await instance.WaitForExitAsync();
                instance.Dispose();
            }
        }

        Process Start()
        {
            var start = new ProcessStartInfo(BuiltPrograms.Path("Jobs", "Jobs"), ["--Scheduler", scheduler, "--Logging:LogLevel:Default", "None"]);
            start.Environment["ConnectionStrings__Default"] = connectionString;
            return Process.Start(start)!;
        }

        Task<object?> CountAsync() => observer.ExecuteAsync("select count(*) from reports");
    }
}
