using System.Diagnostics;

namespace DbLock.ServerTests;

/// <summary>
/// The quick part of the specification (its tests with the trait <c>Part=Quick</c>) in processes that are set up unlike this one, on the
/// same servers.
/// </summary>
public sealed class OtherProcessTests
{
    // One after the other: some keys, such as the number 0, are the same in all of them.
    private static readonly SemaphoreSlim Turn = new(1);

    [Fact]
    public Task Odbc_without_globalization_finds_what_the_server_speaks() =>
        PassesAsync([("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1")], nameof(OdbcOnPostgreSql), nameof(OdbcOnMariaDb));

    // Minuses that are no hyphen, with marks of the direction before them; digits, decimal and group separators of other kinds; another calendar.
    [Theory, InlineData("sv_SE"), InlineData("fa_IR"), InlineData("ar_SA"), InlineData("de_CH")]
    public Task The_culture_of_the_process_changes_nothing(string culture) => PassesAsync(
        [("LC_ALL", culture + ".UTF-8")],
        nameof(NpgsqlOnPostgreSql), nameof(AdoNetOnPostgreSql), nameof(OdbcOnPostgreSql), nameof(OdbcOnMariaDb), nameof(MySqlConnectorOnMariaDb), nameof(InMemory),
        nameof(LockPoolTests), nameof(LockPoolOverOdbc), nameof(LockPoolInMemory));

    [Fact]
    public Task What_blocks_all_threads_of_the_pool_loses_no_lease() => PassesAsync([], nameof(StarvedProgram));

    /// <summary>Runs the quick part of some classes in a process of their own.</summary>
    private static async Task PassesAsync((string Name, string Value)[] environment, params string[] classes)
    {
        var start = new ProcessStartInfo(
            Path.Combine(AppContext.BaseDirectory, "DbLock.ServerTests"),
            ["-noColor", "-noLogo", "-explicit", "on", "-trait", "Part=Quick", .. classes.SelectMany(name => new[] { "-class", $"DbLock.ServerTests.{name}" })])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["DBLOCK_TEST_POSTGRES"] = (await PostgreSqlTestServer.ServerAsync).ConnectionString;
        start.Environment["DBLOCK_TEST_MARIADB"] = (await MariaDbTestServer.ServerAsync).OdbcConnectionString;
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        await Turn.WaitAsync();
        try
        {
            using var process = Process.Start(start)!;
            using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(5));
            await using var kill = limit.Token.Register(process.Kill);
            var output = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 0, $"{(limit.IsCancellationRequested ? "It was killed after five minutes." : "")}\n{string.Join('\n', output)}");
            Assert.Matches("Total: [1-9][0-9]*, Errors: 0, Failed: 0, Skipped: 0", output[0]);
        }
        finally
        {
            Turn.Release();
        }
    }
}
