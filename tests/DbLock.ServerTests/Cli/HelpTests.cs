namespace DbLock.ServerTests.Cli;

/// <summary>The page about the program, held to what the program says.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class HelpTests
{
    [Theory]
    [InlineData("run"), InlineData("list"), InlineData("blocked"), InlineData("watch"), InlineData("cancel"), InlineData("terminate"), InlineData("key"), InlineData("doctor"), InlineData("lease-table"), InlineData("completion")]
    public async Task The_page_has_the_help_of_each_command(string command)
    {
        var (code, help, error) = await DblockProcess.RunAsync(command, "--help");
        Assert.Equal((0, ""), (code, error));
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "DbLock.sln")))
        {
            folder = folder.Parent!;
        }

        var page = await File.ReadAllTextAsync(Path.Combine(folder.FullName, "docs", "cli.md"));
        var expected = $"## dblock {command}\n\n```text\n{string.Join('\n', help.TrimEnd().Split('\n').Select(line => line.TrimEnd()))}\n```\n";
        Assert.True(page.Contains(expected, StringComparison.Ordinal), $"docs/cli.md must say of dblock {command}:\n{expected}");
    }

    [Fact]
    public async Task Every_command_is_in_the_help_and_none_alone_is_wrong_usage()
    {
        var (code, output, _) = await DblockProcess.RunAsync();
        Assert.Equal(64, code);
        Assert.Equal(output, (await DblockProcess.RunAsync("--help")).Output);
        Assert.Contains("  run <KEY> <COMMAND>", output, StringComparison.Ordinal);
        Assert.Matches(@"^\d+\.\d+\.\d+", (await DblockProcess.RunAsync("--version")).Output);
    }
}
