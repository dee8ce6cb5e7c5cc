using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run --trust-pooler</c> behind a pooler in session mode that has one session, which somebody else has.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunPoolerTests
{
    private const string NoSession = "still waiting for a session of the server: the pooler at 127.0.0.1, port ";

    private string Key { get; } = "cli-pooler:" + Guid.NewGuid();

    [Fact]
    public async Task Who_has_no_session_yet_waits_and_says_so()
    {
        await using var pooler = await StartAsync();
        await using var other = await TakeSessionAsync(pooler);
        await using var waiter = Run(pooler, "--trust-pooler");
        await using var quiet = Run(pooler, "--trust-pooler", "--quiet");
        await waiter.UntilAsync(NoSession);
        await waiter.UntilAsync("(10 s so far)");
        Assert.Equal(2, waiter.Error.TrimEnd('\n').Split('\n').Length);
        await other.CloseAsync();
        Assert.Equal((0, "ran\n"), (await waiter.ExitAsync(), waiter.Output));
        Assert.Equal((0, "ran\n", ""), (await quiet.ExitAsync(), quiet.Output, quiet.Error));
    }

    [Fact]
    public async Task Its_timeout_and_a_signal_end_such_a_wait()
    {
        await using var pooler = await StartAsync();
        await using var other = await TakeSessionAsync(pooler);
        await using var timed = Run(pooler, "--trust-pooler", "--timeout", "10s");
        await using var signalled = Run(pooler, "--trust-pooler");
        Assert.Equal((69, ""), (await timed.ExitAsync(), timed.Output));
        Assert.Contains("given up after 10 s, waiting for a session of the server: the pooler at", timed.Error, StringComparison.Ordinal);
        await signalled.UntilAsync(NoSession);
        await signalled.SignalAsync("TERM");
        Assert.Equal((143, ""), (await signalled.ExitAsync(), signalled.Output));
    }

    [Fact]
    public async Task A_wait_for_the_lock_is_not_taken_for_a_silence_when_there_is_no_session_to_ask_over()
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync());
        await using var pooler = await StartAsync();
        await using var dblock = Run(pooler, "--trust-pooler");
        await dblock.UntilAsync($"still waiting for '{Key}'");
        Assert.Contains("held by somebody whom the server does not tell", dblock.Error, StringComparison.Ordinal);

        // Each look would leave a client in the pooler's queue for as long as the wait lasts, were there no other already.
        await dblock.UntilAsync($"still waiting for '{Key}', held by somebody whom the server does not tell (1");
        Assert.Single((await pooler.AdministerAsync("show clients")).Split('\n'), line => line.Contains("| waiting |", StringComparison.Ordinal));
        Assert.True(await held.ReleaseAsync());
        Assert.Equal((0, "ran\n"), (await dblock.ExitAsync(), dblock.Output));
    }

    // It has connected to the server once before it answers.
    private static async Task<PgBouncer> StartAsync() => await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "session", poolSize: 1);

    private static async Task<NpgsqlConnection> TakeSessionAsync(PgBouncer pooler)
    {
        var connection = new NpgsqlConnection(pooler.ConnectionString + ";Pooling=false");
        await connection.OpenAsync();
        await connection.ExecuteAsync("select 1");
        return connection;
    }

    private DblockProcess Run(PgBouncer pooler, params string[] options) =>
        DblockProcess.Start([("DBLOCK_CONNECTION", pooler.ConnectionString)], ["run", .. options, Key, "--", "echo", "ran"]);
}
