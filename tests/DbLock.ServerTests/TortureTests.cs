using System.Diagnostics;
using System.Text.RegularExpressions;

namespace DbLock.ServerTests;

/// <summary>The torture campaign finds out a library that does not keep its promises: its oracles are not blind.</summary>
public sealed class TortureTests
{
    [Theory]
    [InlineData("postgresql", "sessions", "unlocked", "the server does not hold it|Two at a time|Not told in time")]
    [InlineData("postgresql", "sessions", "leak", "Not what the server says|A lock is left behind|At rest a lock is held|Not told of a loss")]
    [InlineData("postgresql", "sessions", "deaf", "Not told of a loss|Not told in time|Two at a time")]
    [InlineData("mariadb", "sessions", "unlocked", "the server does not hold it|Two at a time|Not told in time")]
    [InlineData("mariadb", "sessions", "leak", "Not what the server says|A lock is left behind|At rest a lock is held|Not told of a loss")]
    [InlineData("mariadb", "sessions", "deaf", "Not told of a loss|Not told in time|Two at a time")]
    [InlineData("postgresql", "leases", "unlocked", "the server does not hold it|Two at a time|A token")]
    public async Task A_faulty_library_is_found_out(string server, string locks, string fault, string oracles)
    {
        // It ends when the fault is found out, to which a slow machine comes late.
        using var campaign = Process.Start(new ProcessStartInfo(BuiltPrograms.Path("DbLock.Torture", "DbLock.Torture"), ["--minutes", "5", "--server", server, "--locks", locks, "--sabotage", fault, "--until", oracles])
        {
            RedirectStandardOutput = true,
        })!;
        try
        {
            var output = await campaign.StandardOutput.ReadToEndAsync().WaitAsync(TimeSpan.FromMinutes(10));
            await campaign.WaitForExitAsync();
            Assert.True(Regex.IsMatch(output, $"VIOLATION \\(seed .*({oracles})"), output);
            Assert.Matches("acquisitions, [0-9]+ faults, [1-9][0-9]* violations\n$", output);
            Assert.Equal(1, campaign.ExitCode);
        }
        finally
        {
            campaign.Kill(entireProcessTree: true);
        }
    }
}
