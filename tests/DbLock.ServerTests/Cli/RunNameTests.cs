using System.Globalization;
using System.Text.Json;

namespace DbLock.ServerTests.Cli;

/// <summary>What <c>dblock run</c> shows of itself at the server, and how <c>dblock</c> shows it to people.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunNameTests
{
    private const string Command = "echo pid $DBLOCK_PID.; read x; exit 0";

    private string Key { get; } = "job-" + Guid.NewGuid().ToString("N")[..12];

    [Fact]
    public async Task Who_holds_and_who_waits_is_seen_by_name_host_and_command()
    {
        await using var holder = await DblockProcess.StartAsync("run", Key, "--", "sh", "-c", Command, "secret");
        await holder.UntilAsync(".");
        var pid = int.Parse(holder.Output[4..^2], CultureInfo.InvariantCulture);
        await using var waiter = await DblockProcess.StartAsync("run", "-q", Key, "--", "true");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await TestServer.UntilAsync(async () => (await new Lock(observer, Key).GetHoldersAsync()).Waiting == 1, "it waits");

        // Once, three seconds after the grant, its last statement tells since when, and has no name.
        var (name, query) = ($"/* dblock {Key} */ /* sh on {Environment.MachineName} pid {holder.Pid} */ select ", "");
        await TestServer.UntilAsync(
            async () => (query = (string)(await observer.ExecuteAsync($"select query from pg_stat_activity where pid = {pid}"))!)
                .StartsWith(name, StringComparison.Ordinal),
            "the name is seen");
        Assert.DoesNotContain("secret", query, StringComparison.Ordinal);

        // After the first question, three seconds after the grant.
        var asking = new Lock(observer, Key);
        await TestServer.UntilAsync(async () => (await asking.GetHoldersAsync())[0].HeldFor is not null, "it tells since when");
        Assert.Contains($"pid {pid} (application 'dblock', ", await OutputAsync("blocked"), StringComparison.Ordinal);
        Assert.Matches($@"(?m)^pid {pid} \(.*\) has held Exclusive on advisory lock '{Key}' for [0-9]+ s$", await OutputAsync("blocked"));
        Assert.Matches(
            $@"(?m)^ +pid [0-9]+ \(application 'dblock', .*\) has waited .* for Exclusive on advisory lock '{Key}'$",
            await OutputAsync("blocked"));
        Assert.Matches($@"(?m)^{pid} .* {Key} +Exclusive +true ", await OutputAsync("list", "--pid", $"{pid}", "--application", "dblock"));
        using var json = JsonDocument.Parse(await OutputAsync("list", "--pid", $"{pid}", "-o", "json"));
        var row = json.RootElement.EnumerateArray().Single(row => row.GetProperty("type").GetString() == "advisory");
        Assert.Equal((Key, "dblock"), (row.GetProperty("key").GetString(), row.GetProperty("application").GetString()));
        Assert.InRange(row.GetProperty("held_s").GetDouble(), 0, 600);
        var (code, _, error) = await DblockProcess.RunAsync("run", "-n", Key, "--", "true");
        Assert.Equal(75, code);
        Assert.Matches($@"held by pid {pid} \(application 'dblock', [^)]*\) for [0-9]+ s; 1 other waits", error);
        await holder.TypeAsync("\n");
        Assert.Equal(0, await holder.ExitAsync());
        Assert.Equal(0, await waiter.ExitAsync());
    }

    [Fact]
    public async Task With_no_name_nothing_is_shown()
    {
        await using var holder = await DblockProcess.StartAsync("run", "--no-name", Key, "--", "sh", "-c", Command);
        await holder.UntilAsync(".");
        var pid = int.Parse(holder.Output[4..^2], CultureInfo.InvariantCulture);
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        Assert.Equal("dblock", await observer.ExecuteAsync(
            $"select application_name from pg_stat_activity where pid = {pid} and query not like '%/*%'"));
        await holder.TypeAsync("\n");
        Assert.Equal(0, await holder.ExitAsync());
    }

    [Fact]
    public async Task A_name_that_commands_a_terminal_does_not_reach_it()
    {
        var key = "\u001b[2J\u202e" + Key;
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(connection, key);
        Assert.True(await held.AcquireAsync(block: false));
        var output = await OutputAsync("list", "--pid", connection.ProcessID.ToString(CultureInfo.InvariantCulture));
        Assert.Contains($"\uFFFD[2J\uFFFD{Key} ", output, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', output);
        Assert.DoesNotContain('\u202e', output);
    }

    private static async Task<string> OutputAsync(params string[] arguments)
    {
        var (code, output, error) = await DblockProcess.RunAsync(arguments);
        Assert.Equal((0, ""), (code, error));
        return output;
    }
}
