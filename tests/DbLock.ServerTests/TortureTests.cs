using System.Diagnostics;

namespace DbLock.ServerTests;

/// <summary>The torture campaign finds out a library that does not keep its promises: its oracles are not blind.</summary>
public sealed class TortureTests
{
    [Theory]
    [InlineData("unlocked", "the server does not hold it")]
    [InlineData("leak", "Not what the server says")]
    [InlineData("deaf", "Not told of a loss")]
    public async Task A_faulty_library_is_found_out(string fault, string oracle)
    {
        // It ends with the first violation.
        var here = new DirectoryInfo(AppContext.BaseDirectory);
        using var campaign = Process.Start(new ProcessStartInfo(Path.Combine(here.Parent!.Parent!.FullName, "DbLock.Torture", here.Name, "DbLock.Torture"), ["--minutes", "2", "--sabotage", fault])
        {
            RedirectStandardOutput = true,
        })!;
        var output = await campaign.StandardOutput.ReadToEndAsync();
        await campaign.WaitForExitAsync();
        Assert.Contains(oracle, output, StringComparison.Ordinal);
        Assert.Matches("acquisitions, [0-9]+ faults, [1-9][0-9]* violations\n$", output);
        Assert.Contains("VIOLATION (seed ", output, StringComparison.Ordinal);
        Assert.Equal(1, campaign.ExitCode);
    }
}
