using System.Diagnostics;
using System.Globalization;

namespace DbLock.ServerTests.Cli;

/// <summary>What <c>dblock run</c>'s command starts in its turn: signals, loss and the end reach it too.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunTreeTests : IDisposable
{
    private string Key { get; } = "cli-tree:" + Guid.NewGuid();

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-tree-").FullName;

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Theory, InlineData("TERM", 143), InlineData("HUP", 129), InlineData("INT", 130)]
    public async Task A_signal_reaches_a_script_and_what_it_waits_for(string signal, int expected)
    {
        // A shell has what it puts into the background ignore the signals of the keyboard: bash, with its job control, does not.
        await using var dblock = await DblockProcess.StartAsync("run", Key, "--", "bash", "-c", $"set -m; bash -c 'sleep 1000; true' & echo $! >{Folder}/child; echo started; wait; sleep 1000");
        await dblock.UntilAsync("started");
        await dblock.SignalAsync(signal);
        Assert.Equal(expected, await dblock.ExitAsync());
        AssertEnded(await File.ReadAllTextAsync($"{Folder}/child"));
        await Server.UntilFreeAsync(Key);
    }

    [Theory, InlineData("USR1"), InlineData("PROF"), InlineData("PWR"), InlineData("16"), InlineData("40"), InlineData("64")]
    public async Task A_signal_that_means_something_to_the_command_alone_goes_to_it_alone(string signal)
    {
        await using var dblock = await DblockProcess.StartAsync("run", Key, "--", "sh", "-c", $"trap 'echo got' {signal}; (until test -e {Folder}/go; do sleep 0.05; done; echo lives) & echo started; wait; wait; exit 4");
        await dblock.UntilAsync("started");
        await dblock.SignalAsync(signal);
        await dblock.UntilAsync("got");
        await File.WriteAllTextAsync($"{Folder}/go", "");
        Assert.Equal(4, await dblock.ExitAsync());
        Assert.Contains("lives", dblock.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task On_loss_what_the_command_has_started_has_the_grace()
    {
        await using var dblock = await DblockProcess.StartAsync(
            "run", "--grace", "30s", Key, "--", "sh", "-c", $"sh -c 'trap \"sleep 0.5; echo done >{Folder}/done; exit\" TERM; echo ready >{Folder}/ready; while :; do sleep 0.01; done' & echo pid $DBLOCK_PID.; wait");
        await dblock.UntilAsync(".");
        await TestServer.UntilAsync(() => Task.FromResult(File.Exists($"{Folder}/ready")), "the grandchild is ready");
        await Server.KillHolderAsync(Key);
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.Equal("done\n", await File.ReadAllTextAsync($"{Folder}/done"));
        Assert.DoesNotContain("killed", dblock.Error, StringComparison.Ordinal);
    }

    [Theory, InlineData("", "sleep 0.02"), InlineData("setsid", "sleep 0.02"), InlineData("setsid", "")]
    public async Task On_loss_what_starts_itself_again_and_again_does_not_survive(string how, string pause)
    {
        var script = Path.Combine(Folder, "again");
        await File.WriteAllTextAsync(script, $"#!/bin/sh\ntrap '' TERM HUP\necho x >>{Folder}/born\n{pause}\n{how} '{script}' &\n");
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.UserWrite);
        await using var dblock = await DblockProcess.StartAsync("run", "--grace", "300ms", Key, "--", "sh", "-c", $"trap '' TERM; '{script}' & '{script}' & while :; do sleep 0.1; done");
        await TestServer.UntilAsync(() => Task.FromResult(File.Exists($"{Folder}/born") && new FileInfo($"{Folder}/born").Length > 20), "it has begun");
        await Server.KillHolderAsync(Key);
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.Contains("killed", dblock.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(Processes(), process => process.Contains(script, StringComparison.Ordinal));
    }

    [Fact]
    public async Task On_loss_the_grace_begins_though_nobody_reads_stderr()
    {
        var running = DblockProcess.ShellAsync($$"""
            mkfifo {{Folder}}/full; exec 3<>{{Folder}}/full; dd if=/dev/zero bs=1024 count=64 >&3 2>{{Folder}}/dd
            '{{DblockProcess.Program}}' run --grace 500ms {{Key}} -- sh -c 'trap "" TERM; echo $$ >{{Folder}}/pid; while :; do sleep 0.1; done' 2>&3; echo $?
            """);
        await TestServer.UntilAsync(() => Task.FromResult(File.Exists($"{Folder}/pid")), "the command runs");
        await Server.KillHolderAsync(Key);
        Assert.Equal("74\n", (await running).Output);
        AssertEnded(await File.ReadAllTextAsync($"{Folder}/pid"));
    }

    [Fact]
    public async Task A_pipe_that_nobody_reads_ends_who_writes_as_it_does_outside()
    {
        var (code, output, error) = await DblockProcess.RunAsync("run", Key, "--", "bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}");
        Assert.Equal((0, "y\n141\n", ""), (code, output, error));
        Assert.Equal("141 y\n", (await DblockProcess.ShellAsync($"{{ '{DblockProcess.Program}' run {Key} -- yes; echo $? >{Folder}/code; }} | head -1 >{Folder}/out; echo $(cat {Folder}/code) $(cat {Folder}/out)")).Output);
    }

    [Fact]
    public async Task What_the_command_has_left_running_keeps_the_lock_until_it_ends()
    {
        await using var dblock = await DblockProcess.StartAsync("run", Key, "--", "sh", "-c", $"sh -c 'until test -e {Folder}/go; do sleep 0.05; done' <&- >&- 2>&- & exit 3");
        await dblock.UntilAsync("is held until what it has left running ends: sh (pid ");
        Assert.True(await Server.IsHeldAsync(Key));
        await File.WriteAllTextAsync($"{Folder}/go", "");
        Assert.Equal(3, await dblock.ExitAsync());
        await Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task A_signal_ends_what_the_command_has_left_running()
    {
        await using var dblock = await DblockProcess.StartAsync("run", Key, "--", "sh", "-c", $"sleep 1000 & echo $! >{Folder}/child; exit 3");
        await dblock.UntilAsync("is held until");
        await dblock.SignalAsync("TERM");
        Assert.Equal(3, await dblock.ExitAsync());
        AssertEnded(await File.ReadAllTextAsync($"{Folder}/child"));
    }

    [Theory, InlineData("--close", ""), InlineData("--quiet", "setsid")]
    public async Task A_daemon_and_with_close_anything_does_not_keep_the_lock(string option, string how)
    {
        var (code, _, error) = await DblockProcess.RunAsync("run", option, Key, "--", "sh", "-c", $"{how} sleep 1000 <&- >&- 2>&- & echo $! >{Folder}/child; sleep 0.2; exit 3");
        var child = int.Parse(await File.ReadAllTextAsync($"{Folder}/child"), CultureInfo.InvariantCulture);
        using var sleeper = Process.GetProcessById(child);
        sleeper.Kill();
        Assert.Equal((3, ""), (code, error));
        await Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task Children_that_dblock_has_from_before_are_none_of_its_commands()
    {
        var (output, _) = await DblockProcess.ShellAsync($"sleep 1000 <&- >&- 2>&- & echo $! >{Folder}/before; exec '{DblockProcess.Program}' run {Key} -- sh -c 'exit 3'");
        Assert.Equal("", output);
        using var sleeper = Process.GetProcessById(int.Parse(await File.ReadAllTextAsync($"{Folder}/before"), CultureInfo.InvariantCulture));
        sleeper.Kill();
    }

    [Fact]
    public async Task The_exit_code_is_the_commands_though_who_started_dblock_ignores_its_children()
    {
        var (output, error) = await DblockProcess.ShellAsync($"python3 -c \"import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])\" '{DblockProcess.Program}' run {Key} -- sh -c 'exit 3'; echo $?");
        Assert.Equal(("3\n", ""), (output, error));
    }

    private static void AssertEnded(string pid) =>
        Assert.True(!Directory.Exists($"/proc/{pid.Trim()}") || File.ReadAllText($"/proc/{pid.Trim()}/stat").Contains(") Z ", StringComparison.Ordinal), $"{pid} runs.");

    private static List<string> Processes()
    {
        var lines = new List<string>();
        foreach (var folder in Directory.EnumerateDirectories("/proc").Where(folder => char.IsAsciiDigit(folder[6])))
        {
            try
            {
                lines.Add(File.ReadAllText(folder + "/cmdline"));
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        return lines;
    }
}
