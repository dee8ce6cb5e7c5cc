using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A database that several instances of an application migrate. Each test has one.</summary>
public sealed class MigrationTests : IAsyncLifetime
{
    private PostgreSqlTestServer.TestDatabase _database = null!;

    private static LockKey Key => $"migrate:{typeof(MigratedShop).FullName}";

    public async ValueTask InitializeAsync() => _database = await PostgreSqlTestServer.CreateDatabaseAsync();

    public async ValueTask DisposeAsync()
    {
        await using (var server = await PostgreSqlTestServer.OpenNpgsqlAsync())
        {
            await server.ExecuteAsync($"drop database if exists {_database.Name} with (force); drop role if exists {Role}");
        }

        await _database.DisposeAsync();
    }

    private string Role => $"r{_database.Name}";

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(true, true)]
    public async Task Of_five_instances_one_runs_each_migration(bool exists, bool retries)
    {
        if (!exists)
        {
            await using var server = await PostgreSqlTestServer.OpenNpgsqlAsync();
            await server.ExecuteAsync($"drop database {_database.Name}");
        }

        var instances = await Task.WhenAll(Enumerable.Range(0, 5).Select(_ => Shop.OptionsAsync(_database, retries)));
        Assert.All(await Task.WhenAll(instances.Select(Migrate)), Assert.True);
        Assert.Equal(2L, await AskAsync("select count(*) from orders"));
        Assert.Equal(2L, await AskAsync("select count(*) from \"__EFMigrationsHistory\""));

        static async Task<bool> Migrate(DbContextOptions options)
        {
            await using var shop = new MigratedShop(options);
            return await shop.Database.MigrateUnderLockAsync(new() { LockTimeout = TimeSpan.FromMinutes(1) });
        }
    }

    [Fact]
    public async Task While_one_migrates_others_go_on_if_they_like()
    {
        await using var first = new MigratedShop(await Shop.OptionsAsync(_database));
        await using var second = new MigratedShop(await Shop.OptionsAsync(_database));
        await using (await first.Database.AcquireLockAsync(Key))
        {
            Assert.False(await second.Database.MigrateUnderLockAsync(new() { Timeout = TimeSpan.Zero }));
            Assert.False(await second.Database.MigrateUnderLockAsync(new() { Timeout = TimeSpan.FromMilliseconds(20) }));
            Assert.True(await second.Database.MigrateUnderLockAsync(new() { Key = $"other-{_database.Name}" }));
        }
    }

    /// <summary>The index waits for every transaction that may look at the table: one that waited for the migration's lock would be such.</summary>
    [Fact]
    public async Task An_index_is_built_beside_instances_that_wait()
    {
        await using var session = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={_database.Name}");
        await using var first = new MigratedShop(await Shop.OptionsAsync(_database));
        await using var second = new MigratedShop(await Shop.OptionsAsync(_database));
        Task<bool> migrating, waiting;
        await using (var old = await session.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead))
        {
            // The snapshot keeps the index from being done.
            await session.ExecuteAsync("select 1 from pg_class");
            migrating = first.Database.MigrateUnderLockAsync();
            await UntilAsync("select exists (select from pg_stat_activity where datname = current_database() and query like 'create index concurrently%' and wait_event_type = 'Lock')");
            waiting = second.Database.MigrateUnderLockAsync();
            await UntilAsync("select exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))");
            Assert.False(migrating.IsCompleted);
            await old.CommitAsync();
        }

        Assert.True(await migrating);
        Assert.True(await waiting);
        Assert.Equal(2L, await AskAsync("select count(*) from orders"));
    }

    [Fact]
    public async Task Who_is_in_the_way_of_the_migration_is_cleared_if_asked()
    {
        await using var shop = new MigratedShop(await Shop.OptionsAsync(_database));
        await AskAsync($"create role {Role} login password 'app'; create table more (n int); alter table more owner to {Role}");
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={_database.Name};Username={Role};Password=app");
        await using var holding = await holder.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead);
        await holder.ExecuteAsync("select count(*) from more");
        Assert.True(await shop.Database.MigrateUnderLockAsync(new() { Priority = new() { Interval = TimeSpan.FromMilliseconds(20) } }));
        Assert.Equal("57P01", (await Assert.ThrowsAsync<PostgresException>(() => holder.ExecuteAsync("select 1"))).SqlState);
        Assert.Equal(2L, await AskAsync("select count(*) from orders"));
    }

    [Fact]
    public async Task A_migration_whose_lock_is_lost_is_cancelled_and_says_so()
    {
        await using var session = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={_database.Name}");
        await using var shop = new MigratedShop(await Shop.OptionsAsync(_database));
        await using var old = await session.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead);
        await session.ExecuteAsync("select 1 from pg_class");
        var migrating = shop.Database.MigrateUnderLockAsync();
        await UntilAsync("select exists (select from pg_stat_activity where datname = current_database() and query like 'create index concurrently%' and wait_event_type = 'Lock')");
        await AskAsync("select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())");
        await Assert.ThrowsAsync<LockLostException>(() => migrating);
    }

    private Task UntilAsync(string sql) => TestServer.UntilAsync(async () => (bool)(await AskAsync(sql))!, sql);

    private async Task<object?> AskAsync(string sql)
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={_database.Name}");
        return await connection.ExecuteAsync(sql);
    }
}
