using System.Diagnostics;
using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run</c> when a process of PostgreSQL is stopped.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunSilenceTests() : RunSilenceContract(CliServer.PostgreSql)
{
    [Fact]
    public async Task A_backend_that_is_stopped_for_ten_seconds_costs_neither_the_lock_nor_the_command()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var dblock = DblockProcess.Start([("DBLOCK_CONNECTION", server.ConnectionString)], "run", Key, "--", "sh", "-c", Reader);
        await dblock.UntilAsync(".");
        await SignalAsync("STOP", PidOf(dblock));
        await Task.Delay(TimeSpan.FromSeconds(10));
        await SignalAsync("CONT", PidOf(dblock));
        await Task.Delay(TimeSpan.FromSeconds(6));
        await dblock.TypeAsync("\n");
        Assert.Equal(5, await dblock.ExitAsync());
        Assert.Equal("", dblock.Error);
        await UntilFreeAsync(server);
    }

    [Fact]
    public async Task A_backend_that_stays_stopped_ends_the_command_within_the_trust_window_and_the_lock_when_it_goes_on()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var dblock = DblockProcess.Start(
            [("DBLOCK_CONNECTION", server.ConnectionString)], "run", "--grace", "1s", Key, "--", "sh", "-c", "trap 'echo terminated' TERM; echo pid $DBLOCK_PID.; while :; do sleep 0.1; done");
        await dblock.UntilAsync(".");
        var clock = Stopwatch.StartNew();
        await SignalAsync("STOP", PidOf(dblock));
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.True(clock.Elapsed < Trust + TimeSpan.FromSeconds(1) + Slack, $"It took {clock.Elapsed}.");
        Assert.Contains("terminated", dblock.Output, StringComparison.Ordinal);
        Assert.Contains("has not answered for 15 s", dblock.Error, StringComparison.Ordinal);
        await SignalAsync("CONT", PidOf(dblock));
        await UntilFreeAsync(server);
    }

    private static async Task SignalAsync(string signal, long pid)
    {
        using var kill = Process.Start("kill", [$"-{signal}", pid.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
        Assert.Equal(0, kill.ExitCode);
    }

    private async Task UntilFreeAsync(PostgreSqlServer server)
    {
        await using var connection = new NpgsqlConnection(server.ConnectionString);
        await connection.OpenAsync();
        await using var another = new Lock(connection, Key);
        Assert.True(await another.AcquireAsync(TimeSpan.FromSeconds(30)));
    }
}
