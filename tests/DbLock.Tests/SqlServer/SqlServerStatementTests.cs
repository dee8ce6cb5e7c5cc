using System.Globalization;

namespace DbLock.Tests.SqlServer;

/// <summary>
/// Everything that is said to SQL Server, as it is sent over SqlClient: ready to run there, which no server of these tests can.
/// </summary>
public sealed class SqlServerStatementTests
{
    private static readonly LockKey Three = LockKey.All("a", "b", "c");

    private readonly List<string> _lines = [];

    [Fact]
    public async Task Every_statement_is_the_accepted_one()
    {
        var dialect = LockDialect.SqlServer;
        foreach (var scope in new[] { LockScope.Session, LockScope.Transaction })
        {
            foreach (var (key, what) in new[] { ((LockKey)"nightly-report", "one key"), (Three, "three keys") })
            {
                var request = new LockRequest(key) { Scope = scope, Timeout = TimeSpan.FromSeconds(5) };
                var name = $"{what}, {scope} scope";
                Tell($"acquire {name}", dialect.Acquire(request));
                Tell($"acquire shared {name}", dialect.Acquire(request with { Shared = true }));
                Tell($"is held {name}", dialect.IsHeld(request));
                Tell($"release, and undo, {name}", dialect.Release(request));
                Assert.Equal(dialect.Release(request).Commands[0].Sql, dialect.Undo(request, LockOutcome.Unknown).Commands[0].Sql);
            }
        }

        await Compare("statements.sql");
    }

    [Fact]
    public void A_database_that_cannot_be_written_is_refused()
    {
        var error = Assert.Throws<LockException>(() => LockDialect.SqlServer.Read(new("x"), -1001));
        Assert.Contains("readable secondary", error.Message, StringComparison.Ordinal);
    }

    private void Tell(string what, LockStatement statement)
    {
        _lines.Add($"-- {what}");
        foreach (var parameter in statement.Commands.SelectMany(command => command.Parameters).Select((one, n) => (one.Type, one.Value, n)))
        {
            _lines.Add(string.Create(CultureInfo.InvariantCulture, $"-- @p{parameter.n} {parameter.Type} = {parameter.Value}"));
        }

        _lines.AddRange(string.Join(";\n", statement.Commands.Select(command => command.Sql.Named)).Split('\n').Append(""));
    }

    private async Task Compare(string file)
    {
        var path = Path.Combine(Compiler.Repository, "tests/DbLock.Tests/SqlServer", file);
        if (Environment.GetEnvironmentVariable("DBLOCK_TEST_ACCEPT") == "1")
        {
            await File.WriteAllLinesAsync(path, _lines);
        }

        Assert.Equal(File.Exists(path) ? await File.ReadAllLinesAsync(path) : [], _lines);
    }
}
