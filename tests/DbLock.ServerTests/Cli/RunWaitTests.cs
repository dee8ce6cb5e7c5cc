using System.Globalization;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary>How <c>dblock run</c> waits, what it says meanwhile, and what it gives its command.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunWaitTests
{
    private string Key { get; } = "cli-wait:" + Guid.NewGuid();

    [Fact]
    public async Task Who_holds_is_told_after_two_seconds_and_again()
    {
        await using var holder = await DblockProcess.StartAsync("run", Key, "--", "sh", "-c", "echo pid $DBLOCK_PID.; read x; exit 0");
        await holder.UntilAsync(".");
        var pid = int.Parse(holder.Output[4..^2], CultureInfo.InvariantCulture);
        await using var waiter = await DblockProcess.StartAsync("run", Key, "--", "true");
        await using var quiet = await DblockProcess.StartAsync("run", "--quiet", Key, "--", "true");
        await waiter.UntilAsync($"dblock: still waiting for '{Key}', held by pid {pid}");
        await waiter.UntilAsync("(10 s so far)");
        Assert.Equal(2, waiter.Error.TrimEnd('\n').Split('\n').Length);
        Assert.Contains("1 other waits (10 s so far)", waiter.Error, StringComparison.Ordinal);
        await holder.TypeAsync("\n");
        Assert.Equal(0, await holder.ExitAsync());
        Assert.Equal(0, await waiter.ExitAsync());
        Assert.Equal(0, await quiet.ExitAsync());
        Assert.Equal("", quiet.Error);
    }

    [Fact]
    public async Task Quiet_is_silent_about_a_lock_that_is_held_elsewhere_and_not_about_failures()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(connection, Key);
        Assert.True(await held.AcquireAsync());
        Assert.Equal((75, "", ""), await DblockProcess.RunAsync("run", "--nonblock", "--quiet", Key, "--", "echo", "ran"));
        Assert.Equal((75, "", ""), await DblockProcess.RunAsync("run", "-q", "--timeout", ".25m", Key, "--", "echo", "ran"));
        var (code, _, error) = await DblockProcess.RunAsync([], "run", "-q", "-c", "postgres://x@127.0.0.1:1/x", Key, "--", "true");
        Assert.Equal(69, code);
        Assert.Contains("no connection to 127.0.0.1, port 1", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_migration_that_creates_an_index_concurrently_ends_while_another_waits_yielding()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var address = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name }.ConnectionString;
        await using var connection = new NpgsqlConnection(address);
        await connection.OpenAsync();
        await connection.ExecuteAsync("create table t (a int)");
        (string, string?)[] environment = [("DBLOCK_CONNECTION", address)];
        await using var first = DblockProcess.Start(environment, "run", "--wait", "yield", Key, "--", "sh", "-c", "echo started; read x; exit 0");
        await first.UntilAsync("started");
        await using var second = DblockProcess.Start(environment, "run", "--wait", "yield", Key, "--", "echo", "ran");
        await using var administrator = new Lock(connection, Key);
        await TestServer.UntilAsync(async () => (await administrator.GetHoldersAsync()).Waiting == 1, "the second waits");
        await connection.ExecuteAsync("set statement_timeout = '30s'");
        await connection.ExecuteAsync("create index concurrently on t (a)");
        await first.TypeAsync("\n");
        Assert.Equal(0, await first.ExitAsync());
        Assert.Equal(0, await second.ExitAsync());
        Assert.Equal("ran\n", second.Output);
    }

    [Fact]
    public async Task An_empty_key_is_refused()
    {
        var (code, output, error) = await DblockProcess.RunAsync("run", "", "--", "echo", "ran");
        Assert.Equal((64, ""), (code, output));
        Assert.Contains("a variable that is not set", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_command_sees_no_connection_of_dblocks_unless_it_is_told_to()
    {
        Assert.Equal("none\n", (await DblockProcess.RunAsync("run", Key, "--", "sh", "-c", "echo ${DBLOCK_CONNECTION:-none}")).Output);
        var connection = (await PostgreSqlTestServer.ServerAsync).ConnectionString;
        Assert.Equal(connection + "\n", (await DblockProcess.RunAsync("run", "--pass-connection", Key, "--", "sh", "-c", "echo \"$DBLOCK_CONNECTION\"")).Output);
    }
}
