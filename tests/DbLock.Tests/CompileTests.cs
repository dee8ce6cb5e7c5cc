namespace DbLock.Tests;

/// <summary>What compiles for a user, and what must not.</summary>
public sealed class CompileTests
{
    private const string Usings = """
        using DbLock;
        using Lock = DbLock.Lock;
        using System.Data.Common;


        """;

    [Fact]
    public void The_promised_lines_compile() => Assert.Empty(Compiler.Errors(Usings + """
        DbConnection conn = new Npgsql.NpgsqlConnection();
        LockKey key = "nightly-report";
        var @lock = new Lock(conn, key, LockInterface.AdoNet);
        if (@lock.Acquire(block: false)) { try { } catch (Exception e) { @lock.HandleError(e); throw; } finally { await @lock.ReleaseAsync(); } }
        foreach (var each in new[] { LockInterface.Npgsql, LockInterface.Odbc }) _ = new Lock(conn, key, each);
        _ = new Lock(conn, "text");
        _ = new Lock(conn, 42);
        _ = new Lock(conn, (1, 2));
        _ = new Lock(conn, LockKey.From(Guid.NewGuid()), options: new LockOptions { Shared = true, Scope = LockScope.Transaction });
        _ = await @lock.AcquireAsync() && await @lock.AcquireAsync(CancellationToken.None) && await @lock.AcquireAsync(TimeSpan.FromSeconds(1));
        @lock.Run(() => { });
        int seven = @lock.Run(() => 7);
        await @lock.RunAsync(async token => await Task.Delay(1, token));
        int eight = await @lock.RunAsync(async token => { await Task.Delay(1, token); return 8; });
        bool ran = @lock.TryRun(() => { }) && await @lock.TryRunAsync(async token => await Task.Delay(1, token));
        await using var other = conn.CreateLock("text");
        conn.RunLocked(Job.Work);
        await conn.RunLockedAsync(Job.WorkAsync);
        int nine = conn.RunLocked(Job.Answer);
        static class Job { public static void Work() { } public static int Answer() => 9; public static Task WorkAsync(CancellationToken token) => Task.CompletedTask; }
        """));

    [Fact]
    public void An_asynchronous_body_is_not_given_to_Run() =>
        AssertErrors(
            "CS0619",
            "@lock.Run(async () => await Task.Yield());", "@lock.Run(async () => { await Task.Yield(); return 7; });", "@lock.TryRun(async () => await Task.Yield());",
            "conn.RunLocked(async () => await Task.Yield(), \"key\");", "conn.RunLocked(async () => { await Task.Yield(); return 7; }, \"key\");", "conn.TryRunLocked(async () => await Task.Yield(), \"key\");");

    [Fact]
    public void A_char_is_no_key() => AssertErrors("CS0619", "_ = new Lock(conn, 'a');", "_ = LockKey.From('a');");

    [Fact]
    public void The_name_Lock_needs_its_using()
    {
        var error = Assert.Single(Compiler.Errors("using DbLock; _ = new Lock(null!, \"key\");"));
        Assert.StartsWith("CS0104", error, StringComparison.Ordinal);
    }

    private static void AssertErrors(string code, params string[] lines)
    {
        foreach (var line in lines)
        {
            var errors = Compiler.Errors(Usings + "DbConnection conn = new Npgsql.NpgsqlConnection(); var @lock = new Lock(conn, \"key\");\n" + line);
            Assert.StartsWith(code, Assert.Single(errors), StringComparison.Ordinal);
        }
    }
}
