namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run --slots</c>.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class SlotRunTests
{
    private string Key { get; } = "cli slots:" + Guid.NewGuid();

    [Theory, InlineData(false), InlineData(true)]
    public async Task So_many_commands_run_at_once_each_with_its_slot(bool lease)
    {
        Assert.Equal((0, "", ""), await DblockProcess.RunAsync("lease-table"));
        string[] run = ["run", .. lease ? new[] { "--lease", "10s" } : [], "--slots", "2", Key, "--", "sh", "-c", "echo slot $DBLOCK_SLOT.; read x"];
        await using var first = await DblockProcess.StartAsync(run);
        await first.UntilAsync(".");
        await using var second = await DblockProcess.StartAsync(run);
        await second.UntilAsync(".");
        Assert.Equal(["slot 1.\n", "slot 2.\n"], new[] { first.Output, second.Output }.Order());
        var (code, output, error) = await DblockProcess.RunAsync(["run", "--nonblock", .. run[1..]]);
        Assert.Equal((75, ""), (code, output));
        Assert.Contains("(any of 2 slots)' is held by", error, StringComparison.Ordinal);
        await using var third = await DblockProcess.StartAsync(run);
        await first.TypeAsync("\n");
        Assert.Equal(0, await first.ExitAsync());
        await third.UntilAsync(".");
        Assert.Equal(first.Output, third.Output);
        foreach (var one in new[] { second, third })
        {
            await one.TypeAsync("\n");
            Assert.Equal(0, await one.ExitAsync());
        }
    }

    /// <summary>Without slots there is no such variable, also where dblock itself has one.</summary>
    [Fact]
    public async Task The_key_that_the_command_sees_is_its_slots()
    {
        (string, string?)[] environment = [("DBLOCK_CONNECTION", (await PostgreSqlTestServer.ServerAsync).ConnectionString), ("DBLOCK_SLOT", "7")];
        var (_, output, _) = await DblockProcess.RunAsync(environment, "run", "--slots", "1", Key, "--", "sh", "-c", "echo $DBLOCK_KEY $DBLOCK_SLOT");
        Assert.Equal($"{LockKey.Slots(Key, 1).Slot(1).Number} 1\n", output);
        (_, output, _) = await DblockProcess.RunAsync(environment, "run", Key, "--", "sh", "-c", "echo ${DBLOCK_SLOT-none}");
        Assert.Equal("none\n", output);
    }

    [Theory, InlineData("0"), InlineData("1001"), InlineData("x"), InlineData("3", "--shared")]
    public async Task Slots_that_make_no_sense_are_wrong_usage(params string[] slots) =>
        Assert.Equal(64, (await DblockProcess.RunAsync(["run", "--slots", .. slots, Key, "--", "true"])).ExitCode);
}
