using System.Data.Common;
using System.Diagnostics;
using System.Globalization;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run</c> when the server or the network falls silent, for a while or for ever, and when dblock itself is stopped.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public abstract class RunSilenceContract(CliServer server)
{
    protected const string Reader = "echo pid $DBLOCK_PID.; read x; exit 5";

    // What a busy machine may add to what is promised.
    protected static readonly TimeSpan Slack = TimeSpan.FromSeconds(6);
    protected static readonly TimeSpan Trust = TimeSpan.FromSeconds(15);

    protected string Key { get; } = "cli-silence:" + Guid.NewGuid();

    [Fact]
    public async Task A_network_that_is_silent_for_ten_seconds_costs_neither_the_lock_nor_the_command()
    {
        await using var relay = await RelayAsync();
        await using var dblock = await StartAsync(relay, "run", Key, "--", "sh", "-c", Reader);
        await dblock.UntilAsync(".");
        relay.FallSilent();
        await Task.Delay(TimeSpan.FromSeconds(10));
        relay.GoOn();

        // Long enough to see that it did not begin to be stopped either.
        await Task.Delay(TimeSpan.FromSeconds(6));
        Assert.True(await server.Server.IsHeldByAsync(PidOf(dblock), Key));
        await dblock.TypeAsync("\n");
        Assert.Equal(5, await dblock.ExitAsync());
        Assert.Equal("", dblock.Error);
        await server.Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task A_network_that_stays_silent_ends_the_command_and_a_signal_while_it_is_ended_does_no_harm()
    {
        await using var relay = await RelayAsync();
        await using var dblock = await StartAsync(relay, "run", "--grace", "2s", Key, "--", "sh", "-c", "trap '' TERM; echo pid $DBLOCK_PID.; while :; do sleep 0.1; done");
        await dblock.UntilAsync(".");
        var clock = Stopwatch.StartNew();
        relay.FallSilent();
        await dblock.UntilAsync("is lost");
        await dblock.SignalAsync("TERM");
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.True(clock.Elapsed < Trust + TimeSpan.FromSeconds(2) + Slack, $"It took {clock.Elapsed}.");
        relay.GoOn();
        await server.Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task A_command_that_ends_while_the_server_is_silent_is_not_waited_for_long()
    {
        await using var relay = await RelayAsync();
        await using var dblock = await StartAsync(relay, "run", Key, "--", "sh", "-c", Reader);
        await dblock.UntilAsync(".");
        relay.FallSilent();
        await Task.Delay(TimeSpan.FromSeconds(3));
        await dblock.TypeAsync("\n");
        Assert.Equal(5, await dblock.ExitAsync());
        Assert.Contains("does not answer the release", dblock.Error, StringComparison.Ordinal);
        relay.GoOn();
        await server.Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task A_wait_with_a_timeout_ends_with_it_though_the_network_is_silent()
    {
        await using var wait = await WaitAsync("--timeout", "10s");
        wait.Relay.FallSilent();
        Assert.Equal(69, await wait.Dblock.ExitAsync());
        Assert.Contains("has not answered", wait.Dblock.Error, StringComparison.Ordinal);
        Assert.Equal("", wait.Dblock.Output);
    }

    [Fact]
    public async Task A_signal_ends_a_wait_though_the_network_is_silent()
    {
        await using var wait = await WaitAsync();
        wait.Relay.FallSilent();
        await wait.Dblock.SignalAsync("TERM");

        // Given up as vain it would be 69.
        Assert.Equal(143, await wait.Dblock.ExitAsync());
    }

    [Fact]
    public async Task A_wait_without_a_timeout_is_given_up_when_the_network_stays_silent_and_keeps_no_lock()
    {
        await using var wait = await WaitAsync();
        wait.Relay.FallSilent();
        Assert.True(await wait.Held.ReleaseAsync());
        Assert.Equal(69, await wait.Dblock.ExitAsync());
        Assert.Contains("fallen silent", wait.Dblock.Error, StringComparison.Ordinal);
        Assert.Equal("", wait.Dblock.Output);
        wait.Relay.GoOn();
        await server.Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task A_server_that_takes_the_connection_and_says_nothing_ends_it_within_the_timeout()
    {
        await using var relay = await RelayAsync();
        relay.FallSilent();
        await using var dblock = await StartAsync(relay, "run", "--timeout", "2s", Key, "--", "echo", "ran");
        Assert.Equal(69, await dblock.ExitAsync());
        Assert.Contains("has not answered within 3 s", dblock.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_was_stopped_while_it_waited_and_has_lost_the_grant_meanwhile_does_not_start_its_command()
    {
        await using var wait = await WaitAsync("--quiet");

        // Within this time a grant is still the answer to a question that has just been asked.
        await Task.Delay(TimeSpan.FromMilliseconds(300));
        await wait.Dblock.SignalAsync("STOP");
        Assert.True(await wait.Held.ReleaseAsync());

        // The lock is there a moment before the answer is sent; killed in between, the session would never have granted anything.
        await TestServer.UntilAsync(
            async () => (await wait.Held.GetHoldersAsync()).Any(holder => holder.Session?.IsIdle == true), "it is granted, and the answer sent");
        await server.KillHolderAsync(Key);
        await server.Server.UntilFreeAsync(Key);
        Assert.True(await wait.Held.AcquireAsync());
        await wait.Dblock.SignalAsync("CONT");
        Assert.Equal(74, await wait.Dblock.ExitAsync());
        Assert.Equal("", wait.Dblock.Output);
        Assert.Contains("lost before the command was started", wait.Dblock.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_was_stopped_longer_than_the_trust_window_and_holds_it_all_the_same_goes_on()
    {
        await using var dblock = DblockProcess.Start(await server.EnvironmentAsync(), "run", Key, "--", "sh", "-c", Reader);
        await dblock.UntilAsync(".");
        await dblock.SignalAsync("STOP");
        await Task.Delay(Trust + TimeSpan.FromSeconds(2));
        await dblock.SignalAsync("CONT");
        await Task.Delay(TimeSpan.FromSeconds(4));
        await dblock.TypeAsync("\n");
        Assert.Equal(5, await dblock.ExitAsync());
        Assert.Equal("", dblock.Error);
    }

    /// <summary>Has dblock wait, over a network that can fall silent, for a lock that is held here.</summary>
    private async Task<Wait> WaitAsync(params string[] options)
    {
        var connection = await server.OpenAsync();
        var held = new Lock(connection, Key);
        Assert.True(await held.AcquireAsync());
        var relay = await RelayAsync();
        var dblock = await StartAsync(relay, ["run", .. options, Key, "--", "echo", "ran"]);
        await TestServer.UntilAsync(async () => (await held.GetHoldersAsync()).Waiting == 1, "it waits");
        return new Wait(connection, held, relay, dblock);
    }

    private protected static long PidOf(DblockProcess dblock) => long.Parse(dblock.Output.Split("pid ")[1].Split('.')[0], CultureInfo.InvariantCulture);

    private async Task<SilentRelay> RelayAsync() => new("127.0.0.1", await server.PortAsync());

    private async Task<DblockProcess> StartAsync(SilentRelay relay, params string[] arguments) =>
        DblockProcess.Start([("DBLOCK_CONNECTION", await server.AddressAsync(relay.Port))], arguments);

    private sealed record Wait(DbConnection Connection, Lock Held, SilentRelay Relay, DblockProcess Dblock) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await Dblock.DisposeAsync();
            await Relay.DisposeAsync();
            await Held.DisposeAsync();
            await Connection.DisposeAsync();
        }
    }
}
