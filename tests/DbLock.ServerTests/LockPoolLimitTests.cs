using System.Globalization;
using System.Net;
using System.Net.Sockets;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>
/// A limit is a limit: the calls of a pool end in time while there is no connection to have, and while the server or the network is silent.
/// </summary>
public sealed class LockPoolLimitTests
{
    private static readonly TimeSpan Timeout = TimeSpan.FromMilliseconds(200);

    private string Name { get; } = "pool limits:" + Guid.NewGuid();

    [Theory, InlineData("exhausted"), InlineData("silent")]
    public async Task Without_a_connection_to_have_each_call_ends_in_time_and_says_that_nobody_knows(string how)
    {
        using var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start();
        var server = (await PostgreSqlTestServer.ServerAsync).ConnectionString;

        // The provider's own limit is far away.
        await using var source = NpgsqlDataSource.Create(how == "silent"
            ? $"Host=127.0.0.1;Port={PortOf(silent)};Username=nobody;Timeout=600;SSL Mode=Disable"
            : $"{server};Application Name={Name};Maximum Pool Size=2;Timeout=600");
        List<NpgsqlConnection> taken = how == "silent" ? [] : [await source.OpenConnectionAsync(), await source.OpenConnectionAsync()];
        await using var pool = new LockPool(source);
        var forEver = pool.AcquireLockAsync(Name).AsTask();
        using var cancel = new CancellationTokenSource();
        var cancelled = pool.AcquireLockAsync(Name, cancellationToken: cancel.Token).AsTask();
        foreach (var call in new Func<Task>[]
        {
            async () => await pool.AcquireLockAsync(Name, Timeout),
            async () => await pool.TryAcquireLockAsync(Name, Timeout),
            async () => await pool.AcquireLockAsync(Name + "beside", Timeout),
        })
        {
            var error = await Assert.ThrowsAsync<LockException>(call);
            Assert.Contains("nobody knows", error.Message, StringComparison.Ordinal);
        }

        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);

        // What has no limit of its own goes on, or ends with the pool.
        Assert.False(forEver.IsCompleted);
        if (how == "exhausted")
        {
            await taken[0].DisposeAsync();
            await (await forEver).DisposeAsync();
            await taken[1].DisposeAsync();
            return;
        }

        await pool.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => forEver);
    }

    [Fact]
    public async Task While_the_carrier_is_silent_each_call_ends_in_time_and_only_what_is_known_is_said()
    {
        await using var source = await SourceAsync();
        await using var pool = new LockPool(source);
        await using var held = await pool.AcquireLockAsync(Name);
        await using var stopped = await StopAsync();
        using var cancel = new CancellationTokenSource();
        var cancelled = pool.AcquireLockAsync(Name + "cancelled", cancellationToken: cancel.Token).AsTask();

        // This process holds it; the others nobody could ask for.
        Assert.Null(await pool.TryAcquireLockAsync(Name));
        Assert.Null(await pool.TryAcquireLockAsync(Name, Timeout));
        await Assert.ThrowsAsync<LockNotAcquiredException>(async () => await pool.AcquireLockAsync(Name, Timeout));
        foreach (var key in new[] { Name + "first", Name + "first", Name + "second" })
        {
            var error = await Assert.ThrowsAsync<LockException>(async () => await pool.AcquireLockAsync(key, Timeout));
            Assert.Contains("nobody knows", error.Message, StringComparison.Ordinal);
        }

        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);

        // All that has come before the trust in what is held ran out.
        Assert.True(held.IsHeld);
    }

    [Fact]
    public async Task What_a_silent_carrier_is_granted_after_all_is_let_go()
    {
        await using var source = await SourceAsync();
        await using var pool = new LockPool(source);
        await using var held = await pool.AcquireLockAsync(Name);
        await using (await StopAsync())
        {
            await Assert.ThrowsAsync<LockException>(async () => await pool.AcquireLockAsync(Name + "first", Timeout));
            await Assert.ThrowsAsync<LockException>(async () => await pool.AcquireLockAsync(Name + "second", Timeout));
        }

        await using var after = await pool.AcquireLockAsync(Name + "after");
        await PostgreSqlTestServer.Instance.UntilFreeAsync(Name + "first");
        await PostgreSqlTestServer.Instance.UntilFreeAsync(Name + "second");
        await using var first = await pool.AcquireLockAsync(Name + "first");
        Assert.True(await held.ReleaseAsync());
    }

    [Fact]
    public async Task A_silent_carrier_that_holds_nothing_is_left_behind_and_the_pool_goes_on()
    {
        await using var source = await SourceAsync();
        await using var pool = new LockPool(source);
        await (await pool.AcquireLockAsync(Name)).DisposeAsync();
        await using var stopped = await StopAsync();
        await Assert.ThrowsAsync<LockException>(async () => await pool.AcquireLockAsync(Name + "asked of the silent one", Timeout));
        await using var held = await pool.AcquireLockAsync(Name + "other").AsTask().WaitAsync(TimeSpan.FromSeconds(60));
        Assert.True(held.IsHeld);
    }

    [Fact]
    public async Task Tasks_that_wait_go_on_waiting_while_there_is_no_server_and_new_ones_are_told()
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        var port = 0;
        var logger = new RecordingLogger();
        var proxy = new PostgreSqlProxy(server.Host, server.Port);
        port = proxy.Port;
        var builder = new NpgsqlConnectionStringBuilder(server.ConnectionString)
        {
            Host = "127.0.0.1",
            Port = port,
            SslMode = SslMode.Disable,
            Pooling = false,
        };
        await using var source = NpgsqlDataSource.Create(builder);
        await using var direct = await SourceAsync();
        await using var pool = new LockPool(source, options: new LockPoolOptions { Logger = logger });
        await using var elsewhere = await direct.AcquireLockAsync(Name);
        var lost = await pool.AcquireLockAsync(Name + "lost");
        Task<PooledLock> wait, next;
        using (ExecutionContext.SuppressFlow())
        {
            wait = Task.Run(() => pool.AcquireLockAsync(Name).AsTask());
            next = Task.Run(() => pool.AcquireLockAsync(Name + "lost").AsTask());
        }

        await using (await pool.AcquireLockAsync(Name + "an answer after that"))
        {
        }

        await proxy.DisposeAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(System.Threading.Timeout.Infinite, lost.Lost));
        await TestServer.UntilAsync(
            () => Task.FromResult(logger.Warnings.Any(line => line.Contains("has no connection", StringComparison.Ordinal))),
            "the pool has tried");
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => pool.AcquireLockAsync(Name + "new").AsTask());
        Assert.False(wait.IsCompleted || next.IsCompleted);
        await using var back = new PostgreSqlProxy(server.Host, server.Port, port);
        await (await next.WaitAsync(TimeSpan.FromSeconds(60))).DisposeAsync();
        Assert.False(wait.IsCompleted);
        await elsewhere.DisposeAsync();
        await (await wait.WaitAsync(TimeSpan.FromSeconds(60))).DisposeAsync();
    }

    private static string PortOf(TcpListener listener) => ((IPEndPoint)listener.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture);

    private async Task<NpgsqlDataSource> SourceAsync() =>
        NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Application Name={Name};Pooling=false");

    // The pool's only session does nothing until it is let go on.
    private async Task<IAsyncDisposable> StopAsync()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var pid = (int)(await connection.ExecuteAsync($"select pid from pg_stat_activity where application_name like '{Name[..30]}%'"))!;
        await SignalAsync("STOP");
        return new Stopped(() => SignalAsync("CONT"));

        async Task SignalAsync(string signal)
        {
            using var kill = System.Diagnostics.Process.Start("kill", ["-" + signal, pid.ToString(CultureInfo.InvariantCulture)]);
            await kill.WaitForExitAsync();
        }
    }

    private sealed class Stopped(Func<Task> goOn) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync() => await goOn();
    }
}
