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
                if (scope == LockScope.Session)
                {
                    Tell($"acquire with a token {name}", dialect.Acquire(request with { Fencing = true }));
                }

                Tell($"is held {name}", dialect.IsHeld(request));
                Tell($"release, and undo, {name}", dialect.Release(request));
                Assert.Equal(dialect.Release(request).Commands[0].Sql, dialect.Undo(request, LockOutcome.Unknown).Commands[0].Sql);
            }
        }

        Tell("holders of three keys", dialect.Holders(new LockRequest(Three))!);
        var carrier = dialect.Carrier!;
        CarriedLock[] locks = [.. Three.Keys.Select((key, n) => new CarriedLock(key.Number, key.IsPair, Shared: n == 2, Group: n / 2) { Key = key })];
        Tell("look of a pool", carrier.Look(null));
        Tell("round of a pool", carrier.Carry(locks[..1], locks[1..], "", fencing: false, counts: true));
        Tell("round of a pool with tokens", carrier.Carry([], locks[..2], "", fencing: true, counts: false));
        Tell("are held of a pool", carrier.AreHeld(locks));
        Assert.Null(carrier.ReleaseAll);
        await Compare("statements.sql");
    }

    [Fact]
    public void A_database_that_cannot_be_written_is_refused()
    {
        var error = Assert.Throws<LockException>(() => LockDialect.SqlServer.Read(new("x"), -1001));
        Assert.Contains("readable secondary", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Holders_are_read_from_what_the_server_shows()
    {
        var name = new string('n', 40);
        var answer = """
            {"locks":[
              {"resource":"0:[nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn]:(1a2b3c4d)","id":61,"mode":"X","status":"GRANT","own":0,"user":"app",
               "application":"worker-3","client":"10.0.0.7","database":"jobs","state":"sleeping","since":"2026-11-26T18:03:22.117+01:00",
               "session_age":120000,"state_age":5000,"query":"(@p0 nvarchar(4000),@p1 int)/* dblock nn.. */ declare @answer int"},
              {"resource":"0:[nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn]:(1a2b3c4d)","id":62,"mode":"X","status":"WAIT","own":0,"user":null,
               "application":null,"client":null,"database":null,"state":null,"since":null,"session_age":null,"state_age":null,"query":null}]}
            """;
        var holders = LockDialect.SqlServer.ReadHolders(name, answer);
        var session = Assert.Single(holders).Session!;
        Assert.Equal((61L, "app", "worker-3", "10.0.0.7", "jobs"), (session.Id, session.User, session.Application, session.Client, session.Database));
        Assert.Equal(TimeSpan.FromMinutes(2), session.SessionAge);
        Assert.Equal("nn..", session.LockName);
        Assert.Equal(1, holders.Waiting);
        Assert.Equal(
            $"'{name}' is held by session 61 (application 'worker-3', user 'app', 10.0.0.7) for at least 5 s, sleeping; 1 other waits",
            holders.ToString());
    }

    [Fact]
    public void Hidden_holders_are_said_to_be_hidden()
    {
        var holders = LockDialect.SqlServer.ReadHolders("k", """{"hidden":true}""");
        Assert.Empty(holders);
        Assert.Contains("who holds 'k' is hidden from this user (grant VIEW SERVER STATE", holders.ToString(), StringComparison.Ordinal);
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
