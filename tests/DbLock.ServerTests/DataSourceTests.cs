using System.Data.Common;
using System.Data.Odbc;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Locks from a data source: one lock, one connection.</summary>
public sealed class DataSourceTests : IAsyncDisposable
{
    private readonly List<NpgsqlDataSource> _sources = [];

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private LockKey Key { get; } = "data source:" + Guid.NewGuid();

    public async ValueTask DisposeAsync()
    {
        foreach (var source in _sources)
        {
            await source.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_wrong_timeout_is_told_by_the_call_before_there_is_a_connection()
    {
        // Nobody listens there.
        await using var source = NpgsqlDataSource.Create("Host=127.0.0.1;Port=1;Username=nobody");
        await using var pool = new LockPool(source);
        await using var connection = source.CreateConnection();
        var @lock = new Lock(connection, Key);
        var wrong = TimeSpan.FromSeconds(-2);
        foreach (var call in new Action[]
        {
            () => source.AcquireLock(Key, wrong), () => source.TryAcquireLock(Key, wrong), () => source.AcquireLockAsync(Key, wrong).AsTask(), () => source.TryAcquireLockAsync(Key, wrong).AsTask(),
            () => pool.AcquireLockAsync(Key, wrong).AsTask(), () => pool.TryAcquireLockAsync(Key, wrong).AsTask(), () => @lock.Acquire(wrong), () => @lock.AcquireAsync(wrong).AsTask(),
        })
        {
            Assert.Equal("timeout", Assert.Throws<ArgumentOutOfRangeException>(call).ParamName);
        }
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_lock_is_held_until_it_is_disposed(string driver, bool async)
    {
        var (source, driverName) = (await SourceAsync(driver), driver == "Npgsql" ? null : Drivers.Interface(driver));
        for (var use = 0; use < 3; use++)
        {
            var held = await Acquire(source, driverName, async);
            Assert.True(held.IsHeld);
            Assert.Equal(Key, held.Key);
            Assert.True(await Server.IsHeldAsync(Key));
            Assert.Null(await Try(source, driverName, async));
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => Acquire(source, driverName, async, TimeSpan.FromMilliseconds(30)));
            Assert.Contains("is held by pid", error.Message, StringComparison.Ordinal);
            Assert.Contains("TryAcquireLock", error.Message, StringComparison.Ordinal);
            await Dispose(held, async);
            await Dispose(held, async);
            Assert.False(held.IsHeld);
            Assert.False(async ? await held.ReleaseAsync() : held.Release());
            Assert.False(held.Lost.IsCancellationRequested);
            Assert.False(await Server.IsHeldAsync(Key));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_connection_goes_back_clean_or_not_at_all(bool async)
    {
        // A pool of one: what does not come back is missed at once.
        var source = await SourceAsync("Npgsql", "Maximum Pool Size=1");
        var first = await Acquire(source, null, async);
        Assert.True(async ? await first.ReleaseAsync() : first.Release());
        var pid = await PidAsync(source);
        var second = await Acquire(source, null, async);
        await Server.KillAsync(pid);
        await TestServer.UntilAsync(async () => !await Server.IsHeldAsync(Key), "the session has ended");
        await Assert.ThrowsAsync<LockLostException>(async () => _ = async ? await second.ReleaseAsync() : second.Release());
        Assert.True(second.Lost.IsCancellationRequested);
        Assert.NotEqual(pid, await PidAsync(source));

        // Not acquired, cancelled, refused: each gives the connection back.
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync();
        Assert.True(await new Lock(holder, Key).AcquireAsync(block: false));
        for (var use = 0; use < 3; use++)
        {
            Assert.Null(await Try(source, null, async));
            Assert.Null(async ? await source.TryAcquireLockAsync(Key, TimeSpan.FromMilliseconds(20)) : source.TryAcquireLock(Key, TimeSpan.FromMilliseconds(20)));
            using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => source.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask());
            await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Acquire(source, null, async, TimeSpan.FromDays(100)));
        }

        await PidAsync(source);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_data_source_that_has_no_connection_to_give_holds_nobody_up_beyond_the_limit(bool async)
    {
        var source = await SourceAsync("Npgsql", "Maximum Pool Size=1;Timeout=60");
        await using var only = await source.OpenConnectionAsync();
        var error = await Assert.ThrowsAsync<LockException>(async () => _ = await Acquire(source, null, async, TimeSpan.FromMilliseconds(100)));
        Assert.Contains("No connection for lock", error.Message, StringComparison.Ordinal);
        using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(50));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => source.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask());

        // What came too late went back.
        await only.CloseAsync();
        await using var held = await Acquire(source, null, async, TimeSpan.FromMinutes(1));
        Assert.True(held.IsHeld);
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task A_session_that_ended_in_the_pool_costs_nobody_his_lock(string driver, bool async)
    {
        var source = await SourceAsync("Npgsql", "Maximum Pool Size=2");
        var pid = await PidAsync(source);
        await Server.KillAsync(pid);
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await TestServer.UntilAsync(
            async () => (long)(await observer.ExecuteAsync($"select count(*) from pg_stat_activity where pid = {pid}"))! == 0, "the session has ended");
        await using var held = await Acquire(source, Drivers.Interface(driver), async);
        Assert.True(held.IsHeld);
    }

    [Fact]
    public async Task Transaction_scope_is_refused()
    {
        var source = await SourceAsync("Npgsql");
        var options = new LockOptions { Scope = LockScope.Transaction };
        Assert.Contains("transaction", Assert.Throws<ArgumentException>(() => source.AcquireLock(Key, options: options)).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<ArgumentException>(() => source.TryAcquireLockAsync(Key, options: options).AsTask());
    }

    [Fact]
    public async Task Many_tasks_exclude_each_other_and_leave_no_connection()
    {
        var source = await SourceAsync("Npgsql", "Maximum Pool Size=10");
        var (inside, all) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, 10).Select(async _ =>
        {
            for (var round = 0; round < 30; round++)
            {
                await using var held = await source.AcquireLockAsync(LockKey.All(Key, Key.Name + ":2"));
                Assert.Equal(1, Interlocked.Increment(ref inside));
                await Task.Yield();
                all++;
                Interlocked.Decrement(ref inside);
            }
        }));
        Assert.Equal(300, all);
        Assert.False(await Server.IsHeldAsync(Key));
        await using var last = await source.OpenConnectionAsync();
    }

    private static async Task<int> PidAsync(DbDataSource source)
    {
        await using var connection = await source.OpenConnectionAsync();
        return ((NpgsqlConnection)connection).ProcessID;
    }

    private async Task<DbDataSource> SourceAsync(string driver, string more = "")
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        if (driver == "Odbc")
        {
            // What DbProviderFactory makes for a provider without a data source of its own.
            return OdbcFactory.Instance.CreateDataSource(server.OdbcConnectionString);
        }

        var source = NpgsqlDataSource.Create($"{server.ConnectionString};Application Name={Key};{more}");
        _sources.Add(source);
        return source;
    }

    private async Task<HeldLock> Acquire(DbDataSource source, LockInterface? lockInterface, bool async, TimeSpan? timeout = null) =>
        async ? await source.AcquireLockAsync(Key, timeout, lockInterface) : source.AcquireLock(Key, timeout, lockInterface);

    private async Task<HeldLock?> Try(DbDataSource source, LockInterface? lockInterface, bool async) =>
        async ? await source.TryAcquireLockAsync(Key, lockInterface: lockInterface) : source.TryAcquireLock(Key, lockInterface: lockInterface);

    private static async Task Dispose(HeldLock held, bool async)
    {
        if (async)
        {
            await held.DisposeAsync();
        }
        else
        {
            held.Dispose();
        }
    }
}
