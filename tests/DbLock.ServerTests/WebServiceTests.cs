using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using WebService;

namespace DbLock.ServerTests;

/// <summary>The sample: two instances of it on one database.</summary>
public sealed class WebServiceTests
{
    [Fact]
    public async Task What_instances_of_a_service_do_for_a_customer_they_do_one_after_the_other()
    {
        var database = $"web_{Guid.NewGuid():N}";
        await using var server = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await server.ExecuteAsync($"create database {database}");
        var connectionString = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database }.ConnectionString;
        string[] args = ["--urls", "http://127.0.0.1:0", "--ConnectionStrings:Default", connectionString, "--NightlyReport:Interval", "00:00:00.010", "--DbLock:TelemetryKey", "true", "--Logging:LogLevel:Default", "Warning"];
        var instances = await Task.WhenAll(Service.CreateAsync(args), Service.CreateAsync(args));
        try
        {
            await Task.WhenAll(instances.Select(instance => instance.StartAsync()));
            using var client = new HttpClient();
            var answers = await Task.WhenAll(Enumerable.Range(0, 120).Select(n => client.PostAsync(new Uri($"{instances[n % 2].Urls.Single()}/customers/{n % 3}/import"), null)));
            Assert.Contains(answers, answer => answer.StatusCode == HttpStatusCode.OK);
            Assert.All(answers, answer => Assert.Contains(answer.StatusCode, new[] { HttpStatusCode.OK, HttpStatusCode.Conflict }));

            await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database}");
            Assert.Equal((long)answers.Count(answer => answer.StatusCode == HttpStatusCode.OK), await observer.ExecuteAsync("select count(ended) from runs where job like 'import:%'"));
            await TestServer.UntilAsync(async () => (long)(await observer.ExecuteAsync("select count(ended) from runs where job = 'report'"))! > 5, "reports were made");
            Assert.Equal(0L, await observer.ExecuteAsync("select count(*) from runs as a join runs as b on a.job = b.job and a.id < b.id and b.began < a.ended"));
        }
        finally
        {
            foreach (WebApplication instance in instances)
            {
                await instance.StopAsync();
                await instance.DisposeAsync();
            }

            await server.ExecuteAsync($"drop database {database} with (force)");
        }
    }

    /// <summary>Orders over EF Core, health, telemetry, and a courier on the instance that leads.</summary>
    [Fact]
    public async Task Orders_are_numbered_without_gaps_and_sent_by_the_instance_that_leads()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connectionString = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name }.ConnectionString;
        string[] args = ["--urls", "http://127.0.0.1:0", "--ConnectionStrings:Default", connectionString, "--Courier:Interval", "00:00:00.050", "--Logging:LogLevel:Default", "None"];
        List<WebApplication> instances = [.. await Task.WhenAll(Service.CreateAsync(args), Service.CreateAsync(args))];
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database.Name}");
        using var client = new HttpClient();
        try
        {
            await Task.WhenAll(instances.Select(instance => instance.StartAsync()));
            await OrderAsync();
            await UntilSentAsync();
            Assert.Equal(0L, await observer.ExecuteAsync("select count(*) from (select \"Number\" <> row_number() over (partition by \"Customer\" order by \"Number\") as gap from orders) as o where gap"));
            Assert.Equal(60L, await observer.ExecuteAsync("select count(*) from orders"));
            foreach (var instance in instances)
            {
                Assert.Equal("Healthy", await client.GetStringAsync(new Uri(instance.Urls.Single() + "/health")));
                Assert.Contains("dblock_leader", await client.GetStringAsync(new Uri(instance.Urls.Single() + "/metrics")), StringComparison.Ordinal);
            }

            // The leader goes, and the other sends what is ordered from now on.
            var leader = instances.Single(instance => instance.Services.GetRequiredService<ILeader>().IsLeader);
            instances.Remove(leader);
            Assert.Contains("is held by", await client.GetStringAsync(new Uri(instances[0].Urls.Single() + "/leader")), StringComparison.Ordinal);
            Assert.Equal("This instance leads.", await client.GetStringAsync(new Uri(leader.Urls.Single() + "/leader")));
            await leader.StopAsync();
            await leader.DisposeAsync();
            await OrderAsync();
            await UntilSentAsync();
            Assert.Equal(2L, await observer.ExecuteAsync("select count(distinct \"SentBy\") from orders"));
            Assert.True((bool)(await observer.ExecuteAsync("select (select max(\"SentBy\") from orders where \"Id\" <= 60) < (select min(\"SentBy\") from orders where \"Id\" > 60)"))!);
        }
        finally
        {
            foreach (var instance in instances)
            {
                await instance.StopAsync();
                await instance.DisposeAsync();
            }
        }

        async Task OrderAsync()
        {
            var answers = await Task.WhenAll(Enumerable.Range(0, 60).Select(n => client.PostAsync(new Uri($"{instances[n % instances.Count].Urls.Single()}/customers/{n % 3}/orders"), null)));
            Assert.All(answers, answer => Assert.Equal(HttpStatusCode.OK, answer.StatusCode));
        }

        Task UntilSentAsync() => TestServer.UntilAsync(async () => (long)(await observer.ExecuteAsync("select count(*) from orders where \"SentBy\" is null"))! == 0, "all is sent");
    }

    /// <summary>Their timers differ by what each took to start, and a report takes less than that.</summary>
    [Fact]
    public async Task A_report_that_five_instances_are_due_to_make_is_made_once_in_each_interval()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connectionString = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name }.ConnectionString;
        string[] args = ["--urls", "http://127.0.0.1:0", "--ConnectionStrings:Default", connectionString, "--NightlyReport:Interval", "00:00:02", "--Logging:LogLevel:Default", "Warning"];
        List<WebApplication> instances = [];
        try
        {
            for (var instance = 0; instance < 5; instance++)
            {
                instances.Add(await Service.CreateAsync(args));
                await instances[^1].StartAsync();
            }

            await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database.Name}");
            await TestServer.UntilAsync(async () => (long)(await observer.ExecuteAsync("select count(ended) from runs where job = 'report'"))! >= 4, "reports were made");
            Assert.Equal(0L, await observer.ExecuteAsync(
                "select count(*) from (select began - lag(began) over (order by began) as gap from runs where job = 'report') as g where gap < interval '1 second'"));
        }
        finally
        {
            foreach (var instance in instances)
            {
                await instance.StopAsync();
                await instance.DisposeAsync();
            }
        }
    }
}
