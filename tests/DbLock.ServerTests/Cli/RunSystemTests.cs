using System.Globalization;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run</c> under what a system does to its processes: signals that are ignored, job control, namespaces, a /proc that hides.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunSystemTests : IDisposable
{
    // Of user namespaces, so that everybody may.
    private const string Namespace = "unshare --user --map-root-user --pid --fork --kill-child";

    private string Key { get; } = "cli-system:" + Guid.NewGuid();

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-system-").FullName;

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private string Dblock => $"'{DblockProcess.Program}' run {Key} --";

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Theory, InlineData("trap '' HUP INT QUIT USR1 USR2 ALRM"), InlineData("trap '' INT"), InlineData("trap '' HUP"), InlineData(":")]
    public async Task What_is_ignored_outside_is_ignored_inside_and_nothing_else(string trap)
    {
        const string Ignored = "sed -n 's/^SigIgn://p' /proc/self/status";
        var lines = (await DblockProcess.ShellAsync($"{trap}; {Ignored}; {Dblock} {Ignored}")).Output.Split('\n', StringSplitOptions.TrimEntries);
        Assert.Equal(Signals(lines[0]), Signals(lines[1]));

        // SIGPIPE, which .NET has lost; glibc's own two, which its posix_spawn ignores.
        static ulong Signals(string hexadecimal) => ulong.Parse(hexadecimal, NumberStyles.HexNumber, CultureInfo.InvariantCulture) & 0x7fff_efff;
    }

    [Fact]
    public async Task A_hangup_that_nohup_keeps_off_ends_neither_dblock_nor_the_command() => Assert.Equal("done\n3\n", (await DblockProcess.ShellAsync(
        $"nohup {Dblock} sh -c 'kill -HUP $PPID $$; echo done; exit 3' 2>{Folder}/said; echo $?")).Output);

    [Fact]
    public async Task In_the_background_of_a_script_an_interrupt_does_nothing() => Assert.Equal("done\n3\n", (await DblockProcess.ShellAsync(
        $"{Dblock} sh -c 'kill -INT $PPID $$; echo done; exit 3' & wait $!; echo $?")).Output);

    [Fact]
    public async Task In_a_terminal_it_stops_and_goes_on_with_its_command()
    {
        await using var shell = await DblockProcess.InTerminalAsync("PS1='$ ' bash --norc --noprofile -i");
        await shell.TypeAsync($"{Dblock} sh -c 'echo ready $((1+1)); read x; echo got $x; exit 5'; echo code $?\n");
        await shell.UntilAsync("ready 2");
        await shell.TypeAsync("\u001a");
        await shell.UntilAsync("Stopped");
        Assert.True(await Server.IsHeldAsync(Key));
        await shell.TypeAsync("fg; echo code $?\n");
        await shell.TypeAsync("a\n");
        await shell.UntilAsync("got a");
        await shell.UntilAsync("code 5");
        await shell.TypeAsync("exit\n");
        Assert.Equal(0, await shell.ExitAsync());
        await Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task As_the_first_process_of_a_container_it_hears_signals_and_collects_who_has_ended()
    {
        // An orphan of an orphan; the number of zombies is asked when it has ended.
        var script = $"sh -c 'sh -c \"echo \\$\\$ >{Folder}/orphan\" & true'; "
            + $"until test -s {Folder}/orphan && ! test -e /proc/$(cat {Folder}/orphan); do sleep 0.01; done; trap 'echo got; exit 4' TERM; echo parent $PPID; while :; do sleep 0.01; done";
        await using var dblock = await DblockProcess.InTerminalAsync($"{Namespace} --mount-proc {Dblock} sh -c '{script.Replace("'", "'\\''", StringComparison.Ordinal)}'");
        await dblock.UntilAsync("parent 1");
        var (pids, _) = await DblockProcess.ShellAsync($"pgrep -f 'run {Key}' | while read p; do grep -q '^NSpid:.*[^0-9]1$' /proc/$p/status && kill -TERM $p; done");
        Assert.Equal("", pids);
        await dblock.UntilAsync("got");
        Assert.Equal(4, await dblock.ExitAsync());
    }

    [Fact]
    public async Task As_the_first_process_it_gets_the_exit_code_of_a_command_that_ends_at_once()
    {
        // .NET collects the children of a process 1, now and then before dblock does: so ten at once.
        var (output, _) = await DblockProcess.ShellAsync(
            $"for i in 1 2 3 4 5 6 7 8 9 10; do (timeout -s KILL 50 {Namespace} '{DblockProcess.Program}' run --shared {Key} -- sh -c 'exit 3'; echo $?) & done; wait");
        Assert.Equal(string.Concat(Enumerable.Repeat("3\n", 10)), output);
    }

    [Fact]
    public async Task Where_proc_is_another_namespaces_what_is_left_keeps_the_lock_and_a_loss_that_leaves_somebody_is_told()
    {
        await using var dblock = await DblockProcess.InTerminalAsync(
            $"{Namespace} '{DblockProcess.Program}' run --grace 100ms {Key} -- sh -c 'sh -c \"trap : TERM HUP; touch {Folder}/ready; while :; do sleep 0.1; done\" & echo started'");
        await dblock.UntilAsync("is held until what it has left running ends: processes that /proc does not show to dblock");
        await TestServer.UntilAsync(() => Task.FromResult(File.Exists($"{Folder}/ready")), "the orphan is ready");
        Assert.True(await Server.IsHeldAsync(Key));
        await Server.KillHolderAsync(Key);
        Assert.Equal(74, await dblock.ExitAsync());
        Assert.Contains("could not be killed, and runs on: processes that /proc does not show to dblock", dblock.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Where_proc_is_another_namespaces_the_command_is_signalled_all_the_same()
    {
        await using var dblock = await DblockProcess.InTerminalAsync($"{Namespace} {Dblock} sh -c 'trap \"echo got; exit 6\" TERM; echo started; while :; do sleep 0.01; done'");
        await dblock.UntilAsync("started");
        await Server.KillHolderAsync(Key);
        await dblock.UntilAsync("got");
        Assert.Equal(74, await dblock.ExitAsync());
    }
}
