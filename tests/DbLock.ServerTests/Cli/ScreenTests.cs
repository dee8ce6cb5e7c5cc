using System.Globalization;
using System.Text.RegularExpressions;

namespace DbLock.ServerTests.Cli;

/// <summary>What <c>dblock</c> shows on a terminal of 80 columns and 24 lines.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed partial class ScreenTests
{
    // A title for the window, and a turn of the writing direction.
    private const string Hostile = "\u001b]0;owned\u0007 \u202e";

    private string Unique { get; } = Guid.NewGuid().ToString("N");

    private string App => "screen_" + Unique;

    [Fact]
    public async Task Tables_and_trees_fit_a_terminal_with_a_line_for_each_and_the_important_columns_first()
    {
        await using var sessions = new Sessions();
        var (holder, waiters) = await ContendAsync(sessions);
        var list = await LinesAsync("list", "--relation", $"t_{Unique}");
        Assert.Equal(5, list.Length);
        Assert.All(list, line => Assert.True(line.Length <= 80, line));
        Assert.Matches("^pid +object +mode +granted +wait_s +.*query", list[0]);
        Assert.Matches($@"^{waiters[0]} +public\.t_\w+… +AccessExclusive +false +[0-9.]+ .*lock table", list[1]);
        Assert.Contains("--wide", list[^1], StringComparison.Ordinal);
        var wide = await LinesAsync("list", "--wide", "--relation", $"t_{Unique}");
        Assert.Contains($"/* {new string('x', 200)} */", wide[1], StringComparison.Ordinal);
        var tree = await LinesAsync("blocked", "--relation", $"t_{Unique}");
        Assert.Equal(3, tree.Length);
        Assert.All(tree, line => Assert.True(line.Length <= 80, line));
        Assert.StartsWith($"pid {holder} ", tree[0], StringComparison.Ordinal);
        Assert.Contains("└── ", tree[2], StringComparison.Ordinal);
        Assert.All(await LinesAsync("key", App), line => Assert.True(line.Length <= 80, line));
        Assert.All(await LinesAsync("doctor"), line => Assert.True(line.Length <= 80, line));
    }

    [Fact]
    public async Task Watching_keeps_the_top_and_counts_the_rest()
    {
        await using var sessions = new Sessions();
        var holder = await sessions.OpenAsync($"Application Name={App}");
        await holder.ExecuteAsync("select pg_advisory_lock(x) from generate_series(820001, 820050) as x");
        var lines = await LinesAsync("watch", "list", "--count", "1", "--granted", "--type", "advisory", "--application", App);
        Assert.Equal(23, lines.Length);
        Assert.Matches("^20[0-9]{2}-", lines[0]);
        Assert.StartsWith("pid ", lines[1], StringComparison.Ordinal);
        Assert.Equal("… and 31 more lines", lines[^1]);
    }

    [Theory]
    [InlineData("table"), InlineData("csv"), InlineData("json")]
    public async Task Nothing_that_another_session_wrote_commands_the_terminal(string format)
    {
        await using var sessions = new Sessions();
        var (holder, _) = await ContendAsync(sessions);
        string[][] commands =
        [
            ["list", "-r", $"t_{Unique}", "--wide", "-o", format], ["blocked", "-r", $"t_{Unique}", "-o", format], ["watch", "list", "--count", "1", "--wide", "-r", $"t_{Unique}"],
            ["terminate", "--dry-run", "--include-superusers", "-r", $"t_{Unique}", "--wide", "-o", format], ["terminate", "--dry-run", "--include-superusers", "-r", $"t_{Unique}", "-o", format],
        ];
        foreach (var command in commands)
        {
            await using var dblock = await DblockProcess.StartInTerminalAsync(command);
            Assert.Equal(0, await dblock.ExitAsync());
            Assert.Contains(holder, dblock.Output, StringComparison.Ordinal);
            Assert.DoesNotContain("\u001b]", dblock.Output, StringComparison.Ordinal);
            Assert.DoesNotContain(dblock.Output, c => c is '\u0007' or '\u202e');
        }
    }

    [Theory]
    [InlineData("cancel"), InlineData("terminate")]
    public async Task The_question_shows_what_a_person_needs_to_say_yes(string command)
    {
        await using var sessions = new Sessions();
        var (holder, waiters) = await ContendAsync(sessions);
        await using var dblock = await DblockProcess.StartInTerminalAsync(command, holder, "--include-superusers");
        await dblock.UntilAsync("1 session? (y/N)");
        await dblock.TypeAsync("n\n");
        Assert.Equal(1, await dblock.ExitAsync());
        var shown = Plain(dblock.Output);
        Assert.Matches($@"pid {holder} \(application '{App}', user 'postgres', .*\): idle in transaction for \d+ s|pid {holder} \(application '{App}'.*…", shown);
        Assert.Contains($"AccessExclusive on public.t_{Unique}", shown, StringComparison.Ordinal);
        Assert.Matches($"waiting for it: processes {waiters[0]}, {waiters[1]}|waiting for it: processes {waiters[1]}, {waiters[0]}", shown);
        Assert.Contains($"its last statement: lock table t_{Unique}", shown, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("run"), InlineData("list"), InlineData("watch"), InlineData("terminate"), InlineData("key"), InlineData("doctor")]
    public async Task The_help_fits_a_terminal_and_breaks_no_word(string command)
    {
        var narrow = await LinesAsync(command, "--help");
        Assert.All(narrow, line => Assert.True(line.Length <= 80, line));
        var (_, wide, _) = await DblockProcess.RunAsync(command, "--help");
        Assert.Equal(Words(wide), Words(string.Join('\n', narrow)));
    }

    private static List<string> Words(string text) => [.. text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal)];

    private static async Task<string[]> LinesAsync(params string[] arguments)
    {
        await using var dblock = await DblockProcess.StartInTerminalAsync(arguments);
        Assert.Equal(0, await dblock.ExitAsync());
        return Plain(dblock.Output).TrimEnd().Split('\n');
    }

    private static string Plain(string output) => Escapes().Replace(output, "").Replace("\r", "", StringComparison.Ordinal);

    [GeneratedRegex("\u001b(\\[[0-9;?]*[A-Za-z]|[=>])")]
    private static partial Regex Escapes();

    // One holds a table, two wait for it.
    private async Task<(string Holder, string[] Waiters)> ContendAsync(Sessions sessions)
    {
        var holder = await sessions.OpenAsync($"Application Name={App}");
        await holder.ExecuteAsync($"create table t_{Unique} (n int)");
        await holder.ExecuteAsync("begin");
        await holder.ExecuteAsync($"lock table t_{Unique} /* {Hostile} */");
        var sql = $"lock table t_{Unique} /* {new string('x', 200)} */ /* {Hostile} */";
        List<string> waiters = [];
        for (var i = 0; i < 2; i++)
        {
            waiters.Add((await sessions.OpenWaitingAsync("begin; " + sql)).ProcessID.ToString(CultureInfo.InvariantCulture));
        }

        return (holder.ProcessID.ToString(CultureInfo.InvariantCulture), [.. waiters]);
    }
}
