using System.Data;
using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;
using MySql.Data.MySqlClient;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Locks of a context: on its connection, in its transaction, and on connections of their own. Each test has a database.</summary>
public sealed class EntityFrameworkTests : IAsyncLifetime
{
    private PostgreSqlTestServer.TestDatabase _database = null!;
    private NpgsqlConnection _observer = null!;

    private string Key { get; } = "ef-" + Guid.NewGuid();

    public async ValueTask InitializeAsync()
    {
        _database = await PostgreSqlTestServer.CreateDatabaseAsync();
        _observer = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={_database.Name}");
    }

    public async ValueTask DisposeAsync()
    {
        await _observer.DisposeAsync();
        await _database.DisposeAsync();
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_connection_is_open_while_the_lock_is_held_and_no_longer(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var @lock = shop.Database.CreateLock(Key);
        var connection = shop.Database.GetDbConnection();
        Assert.Equal(ConnectionState.Closed, connection.State);
        Assert.True(await AcquireAsync(@lock, TimeSpan.Zero, async));
        Assert.Equal(ConnectionState.Open, connection.State);
        var session = (long)((NpgsqlConnection)connection).ProcessID;

        await shop.Orders.AddAsync(new Order { Lines = [new()] });
        await shop.SaveChangesAsync();
        Assert.Equal((1, ConnectionState.Open), (await shop.Orders.CountAsync(), connection.State));
        Assert.Equal(session, await HolderAsync());

        await using (var other = await Shop.CreateAsync(_database))
        {
            await using var same = other.Database.CreateLock(Key);
            Assert.False(await AcquireAsync(same, TimeSpan.Zero, async));
            Assert.False(await AcquireAsync(same, TimeSpan.FromMilliseconds(20), async));
            Assert.Equal(ConnectionState.Closed, other.Database.GetDbConnection().State);
        }

        Assert.True(async ? await @lock.ReleaseAsync() : @lock.Release());
        Assert.Equal((null, ConnectionState.Closed), (await HolderAsync(), connection.State));

        Assert.True(await AcquireAsync(@lock, TimeSpan.FromSeconds(30), async));
        if (async)
        {
            await @lock.DisposeAsync();
        }
        else
        {
            @lock.Dispose();
        }

        Assert.Equal((null, ConnectionState.Closed), (await HolderAsync(), connection.State));
    }

    [Fact]
    public async Task A_lease_stays_in_the_database_where_it_was_taken_wherever_its_context_is_led()
    {
        await using var shop = await Shop.CreateAsync(_database);
        await LeaseTable.Default.CreateAsync(_observer);
        var held = await shop.Database.AcquireLockAsync(Key, options: new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(6) });
        var until = Assert.Single(await LeaseTable.Default.GetLeasesAsync(_observer, [Key])).Until;
        shop.Database.SetConnectionString((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await TestServer.UntilAsync(async () => (await LeaseTable.Default.GetLeasesAsync(_observer, [Key])) is [var lease] && lease.Until > until, "it is renewed");
        Assert.True(await held.ReleaseAsync());
        Assert.Empty(await LeaseTable.Default.GetLeasesAsync(_observer, [Key]));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lease_of_a_context_is_renewed_and_let_go_over_its_connection(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await LeaseTable.Default.CreateAsync(_observer);
        await using var @lock = shop.Database.CreateLock(LockKey.Slots(Key, 2), options: new() { Scope = LockScope.Lease });
        var connection = shop.Database.GetDbConnection();
        Assert.True(await AcquireAsync(@lock, TimeSpan.Zero, async));
        Assert.Equal((1, ConnectionState.Open), (@lock.Slot, connection.State));
        Assert.True(async ? await @lock.RenewAsync() : @lock.Renew());
        await using (var transaction = await shop.Database.BeginTransactionAsync())
        {
            await Assert.ThrowsAsync<InvalidOperationException>(async () => _ = async ? await @lock.RenewAsync() : @lock.Renew());
        }

        Assert.True(async ? await @lock.ReleaseAsync() : @lock.Release());
        Assert.Equal((false, ConnectionState.Closed), (@lock.IsHeld, connection.State));
        await using var other = await Shop.CreateAsync(_database);
        await using var same = other.Database.CreateLock(LockKey.Slots(Key, 1), options: new() { Scope = LockScope.Lease });
        Assert.True(await AcquireAsync(same, TimeSpan.Zero, async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_transaction_of_the_context_is_the_locks(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var @lock = shop.Database.CreateLock(Key, options: new() { Scope = LockScope.Transaction });
        var none = await Assert.ThrowsAsync<InvalidOperationException>(async () => await AcquireAsync(@lock, TimeSpan.Zero, async));
        Assert.Contains("ransaction", none.Message, StringComparison.Ordinal);
        Assert.Equal(ConnectionState.Closed, shop.Database.GetDbConnection().State);
        for (var round = 0; round < 2; round++)
        {
            await using var transaction = await shop.Database.BeginTransactionAsync();
            Assert.True(await AcquireAsync(@lock, TimeSpan.Zero, async));
            Assert.NotNull(await HolderAsync());
            await transaction.CommitAsync();
            Assert.Null(await HolderAsync());
            Assert.False(@lock.IsHeld);
        }

        Assert.Equal(ConnectionState.Closed, shop.Database.GetDbConnection().State);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_wait_that_fails_in_the_contexts_transaction_leaves_it_as_it_was(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await _observer.ExecuteAsync($"select pg_advisory_lock({((LockKey)Key).Number})");
        await using (var transaction = await shop.Database.BeginTransactionAsync())
        {
            await shop.Orders.AddAsync(new Order());
            await shop.SaveChangesAsync();
            foreach (var scope in new[] { LockScope.Session, LockScope.Transaction })
            {
                await using var @lock = shop.Database.CreateLock(Key, options: new() { Scope = scope });
                Assert.False(await AcquireAsync(@lock, TimeSpan.FromMilliseconds(20), async));
            }

            await shop.Orders.AddAsync(new Order());
            await shop.SaveChangesAsync();
            await transaction.CommitAsync();
        }

        Assert.Equal(2L, await _observer.ExecuteAsync("""select count(*) from sales."Orders" """));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task After_an_error_the_context_knows_of_the_rollback(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var @lock = shop.Database.CreateLock(Key);
        Assert.True(await AcquireAsync(@lock, TimeSpan.Zero, async));
        await using (await shop.Database.BeginTransactionAsync())
        {
            var error = await Assert.ThrowsAsync<PostgresException>(() => shop.Database.ExecuteSqlRawAsync("select 1 / 0"));
            if (async)
            {
                await @lock.HandleErrorAsync(error);
            }
            else
            {
                @lock.HandleError(error);
            }

            Assert.Null(shop.Database.CurrentTransaction);
            Assert.True(async ? await @lock.ReleaseAsync() : @lock.Release());
        }

        Assert.Null(await HolderAsync());
        Assert.Equal(0, await shop.Orders.CountAsync());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_is_run_under_the_lock_whatever_it_does_with_transactions(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var @lock = shop.Database.CreateLock(Key);
        await RunAsync(@lock, () => SaveInTransaction(commit: true), async);
        Assert.Equal((null, ConnectionState.Closed), (await HolderAsync(), shop.Database.GetDbConnection().State));

        await Assert.ThrowsAsync<PostgresException>(() => RunAsync(@lock, () => SaveInTransaction(commit: false), async));
        Assert.Equal((null, ConnectionState.Closed), (await HolderAsync(), shop.Database.GetDbConnection().State));
        Assert.Null(shop.Database.CurrentTransaction);
        Assert.Equal(1, await shop.Orders.CountAsync());

        await _observer.ExecuteAsync($"select pg_advisory_lock({((LockKey)Key).Number})");
        Assert.False(async ? await @lock.TryRunAsync(_ => Task.FromException(new InvalidOperationException())) : @lock.TryRun(() => Assert.Fail()));
        Assert.Equal(ConnectionState.Closed, shop.Database.GetDbConnection().State);

        void SaveInTransaction(bool commit)
        {
            var transaction = shop.Database.BeginTransaction();
            shop.Orders.Add(new Order());
            shop.SaveChanges();
            if (commit)
            {
                transaction.Commit();
                return;
            }

            shop.Database.ExecuteSqlRaw("select 1 / 0");
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_ends_is_a_loss_and_the_context_goes_on(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var @lock = shop.Database.CreateLock(Key);
        Assert.True(await AcquireAsync(@lock, TimeSpan.Zero, async));
        await PostgreSqlTestServer.Instance.KillAsync(((NpgsqlConnection)shop.Database.GetDbConnection()).ProcessID);
        await Assert.ThrowsAnyAsync<Exception>(() => shop.Orders.CountAsync());
        Assert.True(@lock.Lost.IsCancellationRequested);
        Assert.Throws<LockLostException>(@lock.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(async () => _ = async ? await @lock.ReleaseAsync() : @lock.Release());
        Assert.Equal(0, await shop.Orders.CountAsync());
        Assert.Equal(ConnectionState.Closed, shop.Database.GetDbConnection().State);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lock_outlives_its_context(bool async)
    {
        var shop = await Shop.CreateAsync(_database);
        var @lock = shop.Database.CreateLock(Key);
        Assert.True(await AcquireAsync(@lock, TimeSpan.Zero, async));
        await shop.DisposeAsync();
        if (async)
        {
            await @lock.DisposeAsync();
        }
        else
        {
            @lock.Dispose();
        }

        await TestServer.UntilAsync(async () => await HolderAsync() is null, "the session has ended");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Retries_on_a_new_session_are_refused_and_work_as_a_whole(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database, retries: true);
        await using var @lock = shop.Database.CreateLock(Key);
        var refused = await Assert.ThrowsAsync<InvalidOperationException>(async () => await AcquireAsync(@lock, TimeSpan.Zero, async));
        Assert.Contains("CreateExecutionStrategy().ExecuteAsync", refused.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await shop.LockTimeoutAsync(TimeSpan.FromSeconds(1)));
        Assert.Throws<InvalidOperationException>(() => shop.Prioritize());

        var tries = 0;
        await shop.Database.CreateExecutionStrategy().ExecuteAsync(async () =>
        {
            await using var again = shop.Database.CreateLock(Key);
            Assert.True(await AcquireAsync(again, TimeSpan.Zero, async));
            var session = ((NpgsqlConnection)shop.Database.GetDbConnection()).ProcessID;
            if (++tries == 1)
            {
                await PostgreSqlTestServer.Instance.KillAsync(session);
            }

            await shop.Orders.AddAsync(new Order { Id = 7 });
            shop.ChangeTracker.Clear();
            Assert.Equal(0, await shop.Orders.CountAsync());
            Assert.Equal((long)session, await HolderAsync());
            Assert.True(await again.ReleaseAsync());
        });
        Assert.Equal(2, tries);
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    public async Task A_lock_on_a_connection_of_its_own_has_nothing_to_do_with_the_contexts(bool async, bool retries)
    {
        await using var shop = await Shop.CreateAsync(_database, retries);
        Assert.Equal(0, await shop.Orders.CountAsync());
        await using (var held = async ? await shop.Database.AcquireLockAsync(Key, TimeSpan.FromSeconds(30)) : shop.Database.AcquireLock(Key, TimeSpan.FromSeconds(30)))
        {
            Assert.Equal(ConnectionState.Closed, shop.Database.GetDbConnection().State);
            Assert.NotNull(await HolderAsync());
            Assert.Null(async ? await shop.Database.TryAcquireLockAsync(Key) : shop.Database.TryAcquireLock(Key));
            Assert.Equal(0, await shop.Orders.CountAsync());
            Assert.True(held.IsHeld);
        }

        Assert.Null(await HolderAsync());
    }

    [Fact]
    public async Task A_connection_of_its_own_is_like_that_of_a_data_source_or_of_an_open_connection()
    {
        var connectionString = await Shop.ConnectionStringAsync(_database);
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var ofSource = new Shop(new DbContextOptionsBuilder().UseNpgsql(source).Options);
        await using (await ofSource.Database.AcquireLockAsync(Key))
        {
            Assert.NotNull(await HolderAsync());
        }

        // The password is not in the text of a connection that was open.
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.OpenAsync();
        Assert.DoesNotContain("Password", connection.ConnectionString, StringComparison.Ordinal);
        await using var ofConnection = new Shop(new DbContextOptionsBuilder().UseNpgsql(connection).Options);
        await using (await ofConnection.Database.AcquireLockAsync(Key))
        {
            Assert.NotNull(await HolderAsync());
            Assert.NotEqual(connection.ProcessID, await HolderAsync());
        }
    }

    [Fact]
    public async Task On_MariaDB_too_over_its_providers_connection()
    {
        var options = new DbContextOptionsBuilder().UseMySQL((await MariaDbTestServer.ServerAsync).ConnectionString).Options;
        await using var context = new DbContext(options);
        await using (var @lock = context.Database.CreateLock(Key))
        {
            Assert.True(await @lock.AcquireAsync(TimeSpan.FromSeconds(30)));
            Assert.IsType<MySqlConnection>(context.Database.GetDbConnection());
            Assert.True(await MariaDbTestServer.Instance.IsHeldAsync(Key));
            Assert.Null(await context.Database.TryAcquireLockAsync(Key));
        }

        Assert.False(await MariaDbTestServer.Instance.IsHeldAsync(Key));
        await using (await context.Database.AcquireLockAsync(Key))
        {
            Assert.True(await MariaDbTestServer.Instance.IsHeldAsync(Key));
            Assert.Equal(ConnectionState.Closed, context.Database.GetDbConnection().State);
        }

        var refused = Assert.Throws<NotSupportedException>(() => context.LockTimeout(TimeSpan.FromSeconds(1)));
        Assert.Contains("MySqlConnection", refused.Message, StringComparison.Ordinal);
    }

    private static async Task<bool> AcquireAsync(DbContextLock @lock, TimeSpan timeout, bool async) =>
        async ? await @lock.AcquireAsync(timeout) : @lock.Acquire(timeout);

    private static async Task RunAsync(DbContextLock @lock, Action body, bool async)
    {
        if (!async)
        {
            @lock.Run(body);
            return;
        }

        await @lock.RunAsync(_ =>
        {
            body();
            return Task.CompletedTask;
        });
    }

    private async Task<long?> HolderAsync()
    {
        var (classId, objId, _) = ((LockKey)Key).ToPgLocks();
        return await _observer.ExecuteAsync($"select max(pid) from pg_locks where granted and locktype = 'advisory' and classid = {classId} and objid = {objId}") is int pid ? pid : null;
    }
}
