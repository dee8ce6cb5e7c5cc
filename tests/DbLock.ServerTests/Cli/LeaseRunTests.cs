using System.Globalization;
using System.Text.Json;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run --lease</c> and <c>dblock lease-table</c>.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class LeaseRunTests : IDisposable
{
    private string Key { get; } = "cli lease:" + Guid.NewGuid();

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-cli-leases-").FullName;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Theory, InlineData("PostgreSQL"), InlineData("MariaDB"), InlineData("SQLite")]
    public async Task Two_processes_contend_for_a_lease(string engine)
    {
        var environment = await EnvironmentAsync(engine);
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync(environment, "lease-table"));
        await using var first = DblockProcess.Start(environment, "run", "--lease", "10s", Key, "--", "sh", "-c", "echo token $DBLOCK_FENCING_TOKEN:$DBLOCK_PID.; read x; exit 3");
        await first.UntilAsync(":.");
        var token = long.Parse(first.Output.Split(' ', ':')[1], CultureInfo.InvariantCulture);
        Assert.Contains(":.", first.Output, StringComparison.Ordinal);
        var (code, output, error) = await DblockProcess.RunAsync(environment, "run", "--lease", "10s", "--nonblock", Key, "--", "echo", "ran");
        Assert.Equal((75, ""), (code, output));
        Assert.Contains("is held by process", error, StringComparison.Ordinal);
        Assert.Equal((75, "", ""), await DblockProcess.RunAsync(environment, "run", "--lease", "10s", "-nq", Key, "--", "echo", "ran"));
        await using var second = DblockProcess.Start(environment, "run", "--lease", "10s", Key, "--", "sh", "-c", "echo $DBLOCK_FENCING_TOKEN");
        await first.TypeAsync("\n");
        Assert.Equal(3, await first.ExitAsync());
        Assert.Equal(0, await second.ExitAsync());
        Assert.True(long.Parse(second.Output, CultureInfo.InvariantCulture) > token);
    }

    /// <summary>The process is stopped for longer than its lease, which another gets meanwhile.</summary>
    [Theory, InlineData("PostgreSQL"), InlineData("MariaDB"), InlineData("SQLite")]
    public async Task A_process_that_stood_still_ends_its_command_when_it_goes_on(string engine)
    {
        var environment = await EnvironmentAsync(engine);
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync(environment, "lease-table"));
        await using var first = DblockProcess.Start(environment, "run", "--lease", "6s", Key, "--", "sh", "-c", "echo started; read x; echo went on");
        await first.UntilAsync("started");
        await first.SignalAsync("STOP");
        await using var second = DblockProcess.Start(environment, "run", "--lease", "6s", Key, "--", "sh", "-c", "echo mine; read x");
        await second.UntilAsync("mine");
        await first.SignalAsync("CONT");
        Assert.Equal(74, await first.ExitAsync());
        Assert.DoesNotContain("went on", first.Output, StringComparison.Ordinal);
        Assert.Contains("is lost while the command runs", first.Error, StringComparison.Ordinal);
        await second.TypeAsync("\n");
        Assert.Equal(0, await second.ExitAsync());
    }

    [Theory, InlineData("PostgreSQL"), InlineData("MariaDB"), InlineData("SQLite")]
    public async Task It_runs_once_in_an_interval_though_it_ends_sooner(string engine)
    {
        var environment = await EnvironmentAsync(engine);
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync(environment, "lease-table"));
        string[] run = ["run", "--lease", "10s", "--at-least", "1h", "--nonblock", Key, "--", "echo", "ran"];
        Assert.Equal((0, "ran\n", ""), await DblockProcess.RunAsync(environment, run));
        var (code, output, error) = await DblockProcess.RunAsync(environment, run);
        Assert.Equal((75, ""), (code, output));
        Assert.Contains("is not given again before", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_waits_is_told_after_two_seconds_who_holds_and_then_that_it_is_not_acquired()
    {
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync("lease-table"));
        await using var holder = await DblockProcess.StartAsync("run", "--lease", "10s", Key, "--", "sh", "-c", "echo mine; read x");
        await holder.UntilAsync("mine");
        await using var waiter = await DblockProcess.StartAsync("run", "--lease", "10s", "--timeout", "10s", Key, "--", "true");
        await using var quiet = await DblockProcess.StartAsync("run", "--lease", "10s", "--timeout", "10s", "--quiet", Key, "--", "true");
        await waiter.UntilAsync($"dblock: still waiting for '{Key}', held by process ");
        Assert.Equal((75, 75), (await waiter.ExitAsync(), await quiet.ExitAsync()));
        Assert.Contains($"dblock: not acquired: '{Key}' is held by process ", waiter.Error, StringComparison.Ordinal);
        Assert.Equal("", quiet.Error);
        await holder.TypeAsync("\n");
        Assert.Equal(0, await holder.ExitAsync());
    }

    [Fact]
    public async Task Leases_are_listed_beside_locks()
    {
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync("lease-table"));
        await using var locks = await DblockProcess.StartAsync("run", Key, "--", "sh", "-c", "echo mine; read x");
        await locks.UntilAsync("mine");
        await using var leases = await DblockProcess.StartAsync("run", "--lease", "30s", "--at-least", "1h", Key, "--", "sh", "-c", "echo $DBLOCK_FENCING_TOKEN.; read x");
        await leases.UntilAsync(".");
        using (var json = await ListAsync("--key", Key))
        {
            Assert.Equal(["advisory", "lease"], json.RootElement.EnumerateArray().Select(row => row.GetProperty("type").GetString()));
            var row = json.RootElement[1];
            Assert.Equal(
                (Key, "Exclusive", true, "dblock", Environment.MachineName, leases.Pid, leases.Output.TrimEnd('.', '\n'), "held"),
                (row.GetProperty("key").GetString(), row.GetProperty("mode").GetString(), row.GetProperty("granted").GetBoolean(), row.GetProperty("application").GetString(),
                    row.GetProperty("host").GetString(), row.GetProperty("process").GetInt32(), $"{row.GetProperty("token").GetInt64()}", row.GetProperty("state").GetString()));
            Assert.Equal(TimeSpan.FromHours(1), row.GetProperty("until").GetDateTime() - row.GetProperty("since").GetDateTime());
            Assert.Equal(JsonValueKind.Null, json.RootElement[0].GetProperty("token").ValueKind);
        }

        var (code, table, error) = await DblockProcess.RunAsync("list", "--type", "lease", "--key", Key);
        Assert.Equal((0, "", 2), (code, error, table.TrimEnd('\n').Split('\n').Length));
        Assert.Contains($"process {leases.Pid} of 'dblock' on {Environment.MachineName} for ", table, StringComparison.Ordinal);
        await leases.TypeAsync("\n");
        Assert.Equal(0, await leases.ExitAsync());
        string[][] matching = [["--application", "dblock", "--type", "lease"], ["--granted", "--mode", "Exclusive", "--type", "lease"]];
        foreach (var filter in matching)
        {
            using var json = await ListAsync(["--key", Key, .. filter]);
            Assert.Equal("released", Assert.Single(json.RootElement.EnumerateArray()).GetProperty("state").GetString());
        }

        string[] type = ["--type", "lease"];
        string[][] others = [["--pid", "1"], ["--user", "nobody"], [.. type, "--state", "idle"], ["--waiting"], ["--blocking"], ["--database", "elsewhere", .. type], ["--mode", "Share"], ["--application", "psql", .. type], ["--min-wait", "1s"]];
        foreach (var filter in others)
        {
            Assert.Equal((0, "[]\n", ""), await DblockProcess.RunAsync(["list", "--key", Key, "--output", "json", .. filter]));
        }

        await locks.TypeAsync("\n");
        Assert.Equal(0, await locks.ExitAsync());

        static async Task<JsonDocument> ListAsync(params string[] filter)
        {
            var (code, output, error) = await DblockProcess.RunAsync(["list", "--output", "json", .. filter]);
            Assert.Equal((0, ""), (code, error));
            return JsonDocument.Parse(output);
        }
    }

    [Fact]
    public async Task Old_leases_are_cleared_away()
    {
        var table = $"leases_{Guid.NewGuid():N}";
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync("lease-table", "--name", table));
        await LeaseServers.AskAsync(
            await LeaseServers.SourceAsync("Npgsql"),
            $"insert into {table} select 'old' || n, 0, '', 1, now() - interval '3 day', now() - n * interval '20 hour', '' from generate_series(1, 3) as n");
        Assert.Equal((0, "2\n", ""), await DblockProcess.RunAsync("lease-table", "--clear", "--name", table));
        Assert.Equal((0, "0\n", ""), await DblockProcess.RunAsync("lease-table", "--clear", "--name", table));
        await LeaseServers.AskAsync(await LeaseServers.SourceAsync("Npgsql"), $"drop table {table}");
        var (code, _, error) = await DblockProcess.RunAsync("lease-table", "--clear", "--name", table);
        Assert.NotEqual(0, code);
        Assert.Contains("does not exist for this connection", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_without_leases_and_a_role_that_may_not_read_them_list_the_locks_alone()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name };
        await using var source = NpgsqlDataSource.Create(connection);
        await using var locks = await source.AcquireLockAsync(Key);
        await ListsOneAsync("postgres");
        await LeaseTable.Default.CreateAsync(source);
        await using var lease = await source.AcquireLockAsync(Key, options: new LockOptions { Scope = LockScope.Lease });
        await LeaseServers.AskAsync(source, $"create role {database.Name}_reader login password 'x'");
        await ListsOneAsync($"{database.Name}_reader");
        await LeaseServers.AskAsync(source, $"drop role {database.Name}_reader");

        async Task ListsOneAsync(string user)
        {
            connection.Username = user;
            connection.Password = user == "postgres" ? connection.Password : "x";
            var (code, output, error) = await DblockProcess.RunAsync("list", "--connection", connection.ConnectionString, "--key", Key, "-o", "json");
            Assert.Equal((0, ""), (code, error));
            using var json = JsonDocument.Parse(output);
            Assert.Single(json.RootElement.EnumerateArray());
        }
    }

    [Fact]
    public async Task The_table_is_printed_for_each_engine_and_made_under_another_name()
    {
        foreach (var engine in new[] { "postgresql", "mariadb", "mysql", "sqlite", "sqlserver" })
        {
            var (code, output, _) = await DblockProcess.RunAsync([], "lease-table", "--print", "--engine", engine, "--name", "my leases");
            Assert.Equal(0, code);
            Assert.Contains("my leases", output, StringComparison.Ordinal);
        }

        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connection = $"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Database={database.Name}";
        Assert.Equal(69, (await DblockProcess.RunAsync("run", "-c", connection, "--lease", "10s", Key, "--", "true")).ExitCode);
        Assert.Equal(0, (await DblockProcess.RunAsync("lease-table", "-c", connection)).ExitCode);
        Assert.Equal(0, (await DblockProcess.RunAsync("lease-table", "-c", connection)).ExitCode);
        Assert.Equal(0, (await DblockProcess.RunAsync("run", "-c", connection, "--lease", "10s", Key, "--", "true")).ExitCode);
    }

    [Theory]
    [InlineData("--lease", "1s")]
    [InlineData("--at-least", "1h")]
    [InlineData("--lease", "5s", "--shared")]
    [InlineData("--lease", "5s", "--wait", "yield")]
    [InlineData("--lease", "5s", "--at-least", "366d")]
    public async Task What_makes_no_sense_is_wrong_usage(params string[] options) =>
        Assert.Equal(64, (await DblockProcess.RunAsync(["run", .. options, Key, "--", "true"])).ExitCode);

    private async Task<(string, string?)[]> EnvironmentAsync(string engine) => engine switch
    {
        "SQLite" => [("DBLOCK_CONNECTION", $"sqlite:{Folder}/locks.db")],
        "MariaDB" => await CliServer.MariaDb.EnvironmentAsync(),
        _ => await CliServer.PostgreSql.EnvironmentAsync(),
    };
}
