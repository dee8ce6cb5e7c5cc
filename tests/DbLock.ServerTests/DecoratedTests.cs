using System.Data;
using System.Data.Common;
using System.Data.Odbc;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Connections, transactions and data sources in the decorators of profilers and tracers.</summary>
public sealed class DecoratedTests
{
    private LockKey Key { get; } = "decorated:" + Guid.NewGuid();

    public static TheoryData<string, string> DriversAndWays
    {
        get
        {
            var data = new TheoryData<string, string>();
            foreach (var way in Decorated.Ways)
            {
                data.Add("Npgsql", way);
                data.Add("Odbc", way);
            }

            return data;
        }
    }

    [Theory, MemberData(nameof(DriversAndWays))]
    public async Task A_wrapped_connection_locks_as_its_inner_one_does(string driver, string way)
    {
        await using var inner = await Drivers.OpenAsync(driver);
        await using var connection = Decorated.Wrap(inner, way);
        await using var other = await Drivers.OpenAsync("Npgsql");
        await using var direct = new Lock(other, Key);
        await using var @lock = new Lock(connection, Key);
        Assert.Same(driver == "Odbc" ? LockInterface.Odbc : LockInterface.AdoNet, @lock.Interface);
        for (var use = 0; use < 4; use++)
        {
            foreach (var async in new[] { false, true })
            {
                Assert.True(await @lock.Try(async));
                Assert.False(await direct.Try(async));
                Assert.True(await @lock.Release(async));
                Assert.True(await direct.Try(async));
                Assert.False(async ? await @lock.AcquireAsync(TimeSpan.FromMilliseconds(20)) : @lock.Acquire(TimeSpan.FromMilliseconds(20)));
                using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() => @lock.AcquireAsync(cancel.Token).AsTask());
                Assert.True(await direct.Release(async));
            }
        }

        Assert.Equal(ConnectionState.Open, connection.State);
        Assert.Equal(0, await PostgreSqlTestServer.Instance.CountLocksAsync(await PostgreSqlTestServer.Instance.SessionIdAsync(inner)));
    }

    [Theory, MemberData(nameof(DriversAndWays))]
    public async Task A_lock_on_a_wrapper_and_one_on_the_inner_connection_are_of_one_session(string driver, string way)
    {
        await using var inner = await Drivers.OpenAsync(driver);
        await using var connection = Decorated.Wrap(inner, way);
        await using var outside = new Lock(connection, Key);
        await using var again = new Lock(Decorated.Wrap(inner, "property"), Key);
        await using var inside = new Lock(inner, Key);
        Assert.True(await outside.AcquireAsync());
        Assert.False(await inside.AcquireAsync(block: false));
        Assert.False(await again.AcquireAsync(block: false));
        Assert.Contains("already holds", (await Assert.ThrowsAsync<LockException>(() => inside.AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
        Assert.True(await outside.ReleaseAsync());
        Assert.True(await inside.AcquireAsync(block: false));
        Assert.False(await outside.AcquireAsync(block: false));
        await inner.CloseAsync();
        Assert.True(inside.Lost.IsCancellationRequested);
        await PostgreSqlTestServer.Instance.UntilFreeAsync(Key);
    }

    [Theory, MemberData(nameof(DriversAndWays))]
    public async Task A_wrapped_transaction_is_the_connections_own_and_ends(string driver, string way)
    {
        await using var inner = await Drivers.OpenAsync(driver);
        await using var connection = Decorated.Wrap(inner, way);
        await using var stranger = await Drivers.OpenAsync(driver);
        await using var foreign = await stranger.BeginTransactionAsync();
        foreach (var (made, used) in new[] { (connection, connection), (connection, inner), (inner, connection) })
        {
            await using var @lock = new Lock(used, Key, options: new LockOptions { Scope = LockScope.Transaction });
            Assert.Contains("another connection", Assert.Throws<ArgumentException>(() => @lock.Transaction = foreign).Message, StringComparison.Ordinal);
            await using (var transaction = await made.BeginTransactionAsync())
            {
                @lock.Transaction = transaction;
                Assert.True(await @lock.AcquireAsync(TimeSpan.FromSeconds(10)));
                Assert.True(@lock.IsHeld);
                Assert.True(await PostgreSqlTestServer.Instance.IsHeldAsync(Key));
                await transaction.CommitAsync();
                Assert.False(@lock.IsHeld);
                Assert.False(await PostgreSqlTestServer.Instance.IsHeldAsync(Key));
            }

            await Assert.ThrowsAsync<InvalidOperationException>(() => @lock.AcquireAsync(block: false).AsTask());
        }
    }

    [Theory, MemberData(nameof(DriversAndWays))]
    public async Task A_wrapping_data_source_gives_locks_and_carries_a_pool(string driver, string way)
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        await using DbDataSource inner = driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource(server.OdbcConnectionString) : NpgsqlDataSource.Create(server.ConnectionString);
        await using var source = new WrappingDataSource(inner, way);
        await using (var held = await source.AcquireLockAsync(Key))
        {
            Assert.Null(await source.TryAcquireLockAsync(Key));
            Assert.Null(source.TryAcquireLock(Key));
            Assert.True(await held.ReleaseAsync());
        }

        await using var pool = new LockPool(source);
        await using var pooled = await pool.AcquireLockAsync(Key);
        Assert.Null(await source.TryAcquireLockAsync(Key));

        // Closed under its lock, it does not go back to the pool with it.
        await using var connection = await source.OpenConnectionAsync();
        var forgotten = new Lock(connection, Key.Name + ":closed");
        Assert.True(await forgotten.AcquireAsync());
        await connection.CloseAsync();
        await PostgreSqlTestServer.Instance.UntilFreeAsync(forgotten.Key);
    }

    [Theory, InlineData("Npgsql"), InlineData("Odbc")]
    public async Task What_cannot_be_seen_through_is_refused_for_session_scope(string driver)
    {
        await using var inner = await Drivers.OpenAsync(driver);
        await using var connection = Decorated.Wrap(inner, "opaque");
        await using var @lock = new Lock(connection, Key);
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(1) })
        {
            Assert.Contains("on the inner connection", Assert.Throws<LockException>(() => @lock.Acquire(timeout)).Message, StringComparison.Ordinal);
            Assert.Contains("LockOptions.TrustPooler", (await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync(timeout).AsTask())).Message, StringComparison.Ordinal);
        }

        var server = await PostgreSqlTestServer.ServerAsync;
        await using DbDataSource source = driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource(server.OdbcConnectionString) : NpgsqlDataSource.Create(server.ConnectionString);
        await using var wrapping = new WrappingDataSource(source, "opaque");
        Assert.Contains("on the inner connection", (await Assert.ThrowsAsync<LockException>(() => wrapping.AcquireLockAsync(Key).AsTask())).Message, StringComparison.Ordinal);
        await using var pool = new LockPool(wrapping);
        Assert.Contains("on the inner connection", (await Assert.ThrowsAsync<LockException>(() => pool.AcquireLockAsync(Key).AsTask())).Message, StringComparison.Ordinal);
        Assert.False(await PostgreSqlTestServer.Instance.IsHeldAsync(Key));
    }

    [Fact]
    public async Task The_remedies_for_what_cannot_be_seen_through_work()
    {
        await using var inner = await Drivers.OpenAsync("Npgsql");
        await using var connection = Decorated.Wrap(inner, "opaque");
        await using var trusting = new Lock(connection, Key, options: new LockOptions { TrustPooler = true });
        Assert.True(await trusting.AcquireAsync());
        Assert.True(await trusting.ReleaseAsync());
        await using var transaction = await connection.BeginTransactionAsync();
        await using var scoped = new Lock(connection, Key, options: new LockOptions { Scope = LockScope.Transaction }) { Transaction = transaction };
        Assert.True(await scoped.AcquireAsync(TimeSpan.FromSeconds(10)));
        Assert.True(await PostgreSqlTestServer.Instance.IsHeldAsync(Key));
        await transaction.CommitAsync();
        Assert.False(scoped.IsHeld);
        await using var given = new Lock(inner, Key);
        Assert.True(await given.AcquireAsync(block: false));
    }

    [Fact]
    public async Task A_pooler_in_transaction_mode_is_refused_through_a_wrapper()
    {
        await using var pooler = await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "transaction");
        foreach (var way in Decorated.Ways)
        {
            await using var source = NpgsqlDataSource.Create(pooler.ConnectionString + ";Pooling=false");
            await using var wrapping = new WrappingDataSource(source, way);
            await using var connection = await wrapping.OpenConnectionAsync();
            await using var @lock = new Lock(connection, Key);
            Assert.Contains("A connection pooler", (await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync(block: false).AsTask())).Message, StringComparison.Ordinal);
            Assert.Contains("A connection pooler", Assert.Throws<LockException>(() => @lock.Acquire()).Message, StringComparison.Ordinal);
            await Assert.ThrowsAsync<LockException>(() => wrapping.AcquireLockAsync(Key).AsTask());
            await using var pool = new LockPool(wrapping);
            await Assert.ThrowsAsync<LockException>(() => pool.AcquireLockAsync(Key).AsTask());
            await using var transaction = await connection.BeginTransactionAsync();
            await using var scoped = new Lock(connection, Key, options: new LockOptions { Scope = LockScope.Transaction }) { Transaction = transaction };
            Assert.True(await scoped.AcquireAsync(TimeSpan.FromSeconds(10)));
            await transaction.CommitAsync();
        }

        await using var multiplexing = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString + ";Multiplexing=true");
        await using var bound = await new WrappingDataSource(multiplexing, "field").OpenConnectionAsync();
        await using var refused = new Lock(bound, Key);
        Assert.Contains("Multiplexing", (await Assert.ThrowsAsync<LockException>(() => refused.AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
    }

    [Theory, InlineData("property"), InlineData("field"), InlineData("layers")]
    public async Task A_wrapped_ODBC_connection_is_refused_by_the_AdoNet_driver_as_a_plain_one_is(string way)
    {
        await using var inner = await Drivers.OpenAsync("Odbc");
        await using var connection = Decorated.Wrap(inner, way);
        Assert.Contains("which wraps a System.Data.Odbc.OdbcConnection", Assert.Throws<ArgumentException>(() => new Lock(connection, Key, LockInterface.AdoNet)).Message, StringComparison.Ordinal);
    }
}
