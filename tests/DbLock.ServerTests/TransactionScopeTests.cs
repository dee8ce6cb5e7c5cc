using System.Data;
using System.Data.Common;
using System.Data.Odbc;
using System.Transactions;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Locks on PostgreSQL where a TransactionScope is open.</summary>
public sealed class TransactionScopeTests
{
    private static readonly LockOptions Scoped = new() { Scope = LockScope.Transaction };

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private LockKey Key { get; } = "scope:" + Guid.NewGuid();

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_locks_own_connection_is_outside_the_scope(string driver, bool async)
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        await using DbDataSource source = driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource(server.OdbcConnectionString) : NpgsqlDataSource.Create(server.ConnectionString + ";Enlist=true");
        var @interface = Drivers.Interface(driver);
        HeldLock held;
        using (new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
        {
            var ambient = Transaction.Current;
            held = async ? await source.AcquireLockAsync(Key, lockInterface: @interface) : source.AcquireLock(Key, lockInterface: @interface);
            Assert.Same(ambient, Transaction.Current);

            // Let go in the scope, it is free at once, and its connection is not kept for the scope.
            var inside = async ? await source.AcquireLockAsync(Key.Name + ":inside", lockInterface: @interface) : source.AcquireLock(Key.Name + ":inside", lockInterface: @interface);
            Assert.True(async ? await inside.ReleaseAsync() : inside.Release());
            Assert.False(await Server.IsHeldAsync(inside.Key));
            await using var pool = new LockPool(source, @interface);
            await using var pooled = await pool.AcquireLockAsync(Key.Name + ":pool");
            Assert.True(await Server.IsHeldAsync(pooled.Key));
            Assert.Equal(Guid.Empty, ambient!.TransactionInformation.DistributedIdentifier);
        }

        // The scope was rolled back, and the lock is held.
        Assert.True(held.IsHeld);
        Assert.True(await Server.IsHeldAsync(Key));
        Assert.True(async ? await held.ReleaseAsync() : held.Release());
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Fact]
    public async Task A_scope_that_does_not_flow_stays_as_it_is()
    {
        await using var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        Task<HeldLock> acquire;
        using (var scope = new TransactionScope())
        {
            var ambient = Transaction.Current;
            using (source.AcquireLock(Key.Name + ":sync"))
            {
                Assert.Same(ambient, Transaction.Current);
            }

            acquire = source.AcquireLockAsync(Key).AsTask();
            Assert.Same(ambient, Transaction.Current);
            scope.Complete();
        }

        Assert.Null(Transaction.Current);
        await using var held = await acquire;
        Assert.True(await Server.IsHeldAsync(Key));
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_connection_that_is_not_enlisted_works_in_a_scope(string driver, bool async)
    {
        await using var before = await Drivers.OpenAsync(driver);
        using var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled);
        await using DbConnection inside = driver == "Odbc" ? await PostgreSqlTestServer.OpenOdbcAsync() : await PostgreSqlTestServer.OpenNpgsqlAsync("Enlist=false;Pooling=false");
        foreach (var connection in new[] { before, inside })
        {
            await using var @lock = new Lock(connection, Key, Drivers.Interface(driver));
            Assert.True(await @lock.Try(async));
            Assert.True(await @lock.Release(async));
            Assert.True(async ? await @lock.AcquireAsync() : @lock.Acquire());
            Assert.True(await @lock.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));
            await using var scoped = new Lock(connection, Key, Drivers.Interface(driver), Scoped);
            Assert.Contains("no open transaction", (await Assert.ThrowsAsync<InvalidOperationException>(() => scoped.Try(async))).Message, StringComparison.Ordinal);
        }
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task An_enlisted_connection_takes_transaction_scope_and_no_other(string driver, bool async)
    {
        await using var other = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var elsewhere = new Lock(other, Key);
        foreach (var commits in new[] { true, false })
        {
            await using var connection = new NpgsqlConnection((await PostgreSqlTestServer.ServerAsync).ConnectionString + ";Enlist=true;Pooling=false");
            await using var session = new Lock(connection, Key, Drivers.Interface(driver));
            await using var scoped = new Lock(connection, Key, Drivers.Interface(driver), Scoped);
            using (var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
            {
                await connection.OpenAsync();
                Assert.Contains("LockScope.Transaction", (await Assert.ThrowsAsync<InvalidOperationException>(() => session.Try(async))).Message, StringComparison.Ordinal);
                Assert.True(await elsewhere.Try(async));
                Assert.False(await scoped.Try(async));
                Assert.False(async ? await scoped.AcquireAsync(TimeSpan.FromMilliseconds(20)) : scoped.Acquire(TimeSpan.FromMilliseconds(20)));
                Assert.True(await elsewhere.Release(async));
                Assert.True(async ? await scoped.AcquireAsync(TimeSpan.FromSeconds(10)) : scoped.Acquire(TimeSpan.FromSeconds(10)));
                Assert.True(scoped.IsHeld);
                using (var nested = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
                {
                    await using var again = new Lock(connection, Key.Name + ":nested", Drivers.Interface(driver), Scoped);
                    Assert.True(await again.Try(async));
                    nested.Complete();
                }

                Assert.True(scoped.IsHeld);
                Assert.False(await scoped.Release(async));
                Assert.False(await elsewhere.Try(async));
                await connection.ExecuteAsync("select 1");
                if (commits)
                {
                    scope.Complete();
                }
            }

            Assert.False(scoped.IsHeld);
            await Server.UntilFreeAsync(Key);
            await Server.UntilFreeAsync(Key.Name + ":nested");
        }
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task A_connection_that_is_closed_in_its_scope_leaves_the_lock_to_the_scope(string driver, bool isEnded)
    {
        await using var source = NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Enlist=true;Application Name={Guid.NewGuid()}");
        CancellationToken lost;
        using (var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
        {
            await using var connection = await source.OpenConnectionAsync();
            var session = connection.ProcessID;
            var @lock = new Lock(connection, Key, Drivers.Interface(driver), Scoped);
            Assert.True(await @lock.AcquireAsync());
            lost = @lock.Lost;
            if (isEnded)
            {
                await Server.KillAsync(session);
                await Assert.ThrowsAnyAsync<DbException>(() => connection.ExecuteAsync("select 1"));
                Assert.True(lost.IsCancellationRequested);
                Assert.Throws<LockLostException>(@lock.ThrowIfLost);
                return;
            }

            await connection.CloseAsync();
            Assert.True(@lock.IsHeld);
            @lock.ThrowIfLost();
            Assert.True(await Server.IsHeldAsync(Key));
            await connection.OpenAsync();
            Assert.Equal(session, connection.ProcessID);
            await connection.CloseAsync();
            scope.Complete();
        }

        await Server.UntilFreeAsync(Key);
        Assert.False(lost.IsCancellationRequested);
    }
}
