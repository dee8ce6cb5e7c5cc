using System.Globalization;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run</c>, as people run it, whatever the engine is.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public abstract class RunContract(CliServer server) : IDisposable
{
    protected string Key { get; } = "cli:" + Guid.NewGuid();

    protected string Folder { get; } = Directory.CreateTempSubdirectory("dblock-cli-").FullName;

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task The_command_has_the_streams_the_arguments_and_the_environment()
    {
        const string Script = """
            cat; echo "$#:$1:$2:$3" >&2
            echo "$DBLOCK_NAME|$DBLOCK_KEY|$DBLOCK_PID|$DBLOCK_FENCING_TOKEN"
            exit 42
            """;
        await using var dblock = await StartAsync("run", Key, "--", "sh", "-c", Script, "sh", "--timeout", "a b'\"$x", "");
        await dblock.TypeAsync("typed\n");
        dblock.CloseInput();
        Assert.Equal(42, await dblock.ExitAsync());
        Assert.Equal("3:--timeout:a b'\"$x:\n", dblock.Error);
        var lines = dblock.Output.Split('\n');
        Assert.Equal("typed", lines[0]);
        var shown = lines[1].Split('|');
        Assert.Equal([Key, server.Locked(Key)], shown[..2]);
        Assert.True(int.Parse(shown[2], CultureInfo.InvariantCulture) > 0);
        Assert.True(long.Parse(shown[3], CultureInfo.InvariantCulture) > 0);
    }

    [Fact]
    public async Task The_lock_is_held_while_the_command_runs_and_by_the_process_that_it_is_told()
    {
        await using var dblock = await StartAsync("run", Key, "--", "sh", "-c", "echo pid $DBLOCK_PID.; read x");
        await dblock.UntilAsync(".");
        var pid = long.Parse(dblock.Output[4..^2], CultureInfo.InvariantCulture);
        Assert.True(await server.Server.IsHeldByAsync(pid, Key));
        dblock.CloseInput();
        Assert.Equal(1, await dblock.ExitAsync());
        await server.Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task Two_processes_contend()
    {
        await using var first = await StartAsync("run", Key, "--", "sh", "-c", "echo started; read x; exit 0");
        await first.UntilAsync("started");
        var (code, output, error) = await RunDblockAsync("run", "--nonblock", Key, "--", "echo", "ran");
        Assert.Equal((75, ""), (code, output));
        Assert.Contains($"not acquired: '{Key}' is held by {server.Session} ", error, StringComparison.Ordinal);
        Assert.Equal(3, (await RunDblockAsync("run", "-nE", "3", Key, "--", "true")).ExitCode);
        (code, _, error) = await RunDblockAsync("run", "--timeout", "6s", Key, "--", "true");
        Assert.True(code == 75, $"{code}: {error}");
        await using var second = await StartAsync("run", "--verbose", "-t", "1m", Key, "--", "echo", "ran");
        await second.UntilAsync($"waiting: '{Key}' is held by {server.Session}");
        await first.TypeAsync("\n");
        Assert.Equal(0, await first.ExitAsync());
        Assert.Equal(0, await second.ExitAsync());
        Assert.Equal("ran\n", second.Output);
        Assert.Matches(@"acquired after \d+\.\d+ s", second.Error);
        Assert.Contains("the command ended with 0", second.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Twenty_at_once_lose_no_update_and_their_tokens_grow()
    {
        var (counter, tokens) = (Path.Combine(Folder, "counter"), Path.Combine(Folder, "tokens"));
        await File.WriteAllTextAsync(counter, "0\n");
        var script = $"read n <{counter}; echo $DBLOCK_FENCING_TOKEN >>{tokens}; echo $((n + 1)) >{counter}";
        var codes = await Task.WhenAll(Enumerable.Range(0, 20).Select(async _ => (await RunDblockAsync("run", Key, "--", "sh", "-c", script)).ExitCode));
        Assert.All(codes, code => Assert.Equal(0, code));
        Assert.Equal("20\n", await File.ReadAllTextAsync(counter));
        var seen = (await File.ReadAllLinesAsync(tokens)).Select(line => long.Parse(line, CultureInfo.InvariantCulture)).ToList();
        Assert.Equal(seen.Distinct().Order(), seen);
        Assert.Equal(20, seen.Count);
    }

    [Theory, InlineData("TERM", 143), InlineData("INT", 130), InlineData("HUP", 129)]
    public async Task A_signal_while_waiting_ends_the_wait(string signal, int expected)
    {
        await using var holder = await server.OpenAsync();
        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync());
        await using var dblock = await StartAsync("run", "-v", Key, "--", "echo", "ran");
        await dblock.UntilAsync("waiting");
        await dblock.SignalAsync(signal);
        Assert.Equal(expected, await dblock.ExitAsync());
        Assert.Equal("", dblock.Output);
        Assert.True(await held.ReleaseAsync());
        await server.Server.UntilFreeAsync(Key);
    }

    [Theory, InlineData("TERM"), InlineData("INT"), InlineData("HUP"), InlineData("QUIT"), InlineData("USR1"), InlineData("USR2")]
    public async Task A_signal_goes_on_to_the_command(string signal)
    {
        await using var dblock = await StartAsync("run", Key, "--", "sh", "-c", $"trap 'echo got {signal}; exit 7' {signal}; echo started; while :; do sleep 0.01; done");
        await dblock.UntilAsync("started");
        await dblock.SignalAsync(signal);
        Assert.Equal(7, await dblock.ExitAsync());
        Assert.Equal($"started\ngot {signal}\n", dblock.Output);
        await server.Server.UntilFreeAsync(Key);
    }

    [Theory, InlineData("TERM", 143), InlineData("KILL", 137)]
    public async Task A_command_that_a_signal_ended_is_128_and_its_number(string signal, int expected) =>
        Assert.Equal(expected, (await RunDblockAsync("run", Key, "--", "sh", "-c", $"kill -{signal} $$")).ExitCode);

    [Fact]
    public async Task A_killed_backend_ends_the_command()
    {
        await using var dblock = await StartAsync("run", Key, "--", "sh", "-c", "trap 'echo terminated; exit 3' TERM; echo pid $DBLOCK_PID.; while :; do sleep 0.01; done");
        await dblock.UntilAsync(".");
        await KillAsync(dblock);
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.Contains("terminated", dblock.Output, StringComparison.Ordinal);
        Assert.Contains($"lock '{Key}' is lost while the command runs, and others may hold it", dblock.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_command_that_does_not_heed_is_killed_after_the_grace_with_what_it_started()
    {
        await using var dblock = await StartAsync(
            "run", "--grace", "100ms", Key, "--", "sh", "-c", $"trap '' TERM; sleep 1000 & echo $! >{Folder}/child; echo pid $DBLOCK_PID.; while :; do sleep 0.01; done");
        await dblock.UntilAsync(".");
        await KillAsync(dblock);
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.Contains("killed", dblock.Error, StringComparison.Ordinal);
        await AssertEndedAsync(await File.ReadAllTextAsync($"{Folder}/child"));
    }

    [Fact]
    public async Task What_the_command_left_behind_is_stopped_with_it()
    {
        await using var dblock = await StartAsync("run", Key, "--", "sh", "-c", $"sleep 1000 & echo $! >{Folder}/child; echo pid $DBLOCK_PID.; sleep 1000; true");
        await dblock.UntilAsync(".");
        await KillAsync(dblock);
        Assert.Equal(74, await dblock.ExitAsync());
        await AssertEndedAsync(await File.ReadAllTextAsync($"{Folder}/child"));
    }

    [Theory, InlineData("kill", 74), InlineData("ignore", 6)]
    public async Task What_is_done_on_loss_is_for_the_user_to_say(string what, int expected)
    {
        await using var dblock = await StartAsync(
            "run", "--on-lost", what, Key, "--", "sh", "-c", "trap 'echo terminated' TERM; echo pid $DBLOCK_PID.; read x; exit 6");
        await dblock.UntilAsync(".");
        await KillAsync(dblock);
        await dblock.UntilAsync("is lost");
        if (what == "ignore")
        {
            await dblock.TypeAsync("\n");
        }

        Assert.Equal(expected, await dblock.ExitAsync());
        Assert.DoesNotContain("terminated", dblock.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_signal_while_connecting_ends_it()
    {
        using var silent = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        silent.Start();
        await using var dblock = DblockProcess.Start([("DBLOCK_CONNECTION", await server.AddressAsync(((System.Net.IPEndPoint)silent.LocalEndpoint).Port))], "run", Key, "--", "true");
        using var client = await silent.AcceptTcpClientAsync();
        await dblock.SignalAsync("TERM");
        Assert.Equal(143, await dblock.ExitAsync());
    }

    protected static async Task AssertEndedAsync(string pid) =>
        await TestServer.UntilAsync(() => Task.FromResult(!Directory.Exists($"/proc/{pid.Trim()}") || File.ReadAllText($"/proc/{pid.Trim()}/stat").Contains(") Z ", StringComparison.Ordinal)), $"{pid} has ended");

    private async Task<DblockProcess> StartAsync(params string[] arguments) => DblockProcess.Start(await server.EnvironmentAsync(), arguments);

    private async Task<(int ExitCode, string Output, string Error)> RunDblockAsync(params string[] arguments) =>
        await DblockProcess.RunAsync(await server.EnvironmentAsync(), arguments);

    private Task KillAsync(DblockProcess dblock) =>
        server.Server.KillAsync(long.Parse(dblock.Output.Split("pid ")[1].Split('.')[0], CultureInfo.InvariantCulture));
}
