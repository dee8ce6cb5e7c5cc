using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Numbers that grow with each grant, whatever becomes of the server.</summary>
public sealed class FencingTests
{
    private static readonly LockOptions Fenced = new() { Fencing = true };
    private static readonly LockPoolOptions FencedPool = new() { Fencing = true };

    private LockKey Key { get; } = "fencing:" + Guid.NewGuid();

    [Fact]
    public async Task They_do_not_go_back_when_the_server_crashes()
    {
        // Nothing reaches the disk here that need not.
        await using var server = await PostgreSqlServer.StartPrivateAsync(["synchronous_commit = off", "wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'", "bgwriter_lru_maxpages = 0"]);
        var last = 0L;
        for (var crash = 0; crash < 5; crash++)
        {
            for (var grant = 0; grant < 20; grant++)
            {
                last = await NextAsync(server.ConnectionString, last);
            }

            await server.RestartAsync(immediate: true);
        }

        await NextAsync(server.ConnectionString, last);
    }

    [Fact]
    public async Task They_do_not_go_back_when_a_standby_takes_over_that_was_behind()
    {
        await using var primary = await PostgreSqlServer.StartPrivateAsync();
        await using var standby = await primary.StartStandbyAsync();
        await using (var connection = new NpgsqlConnection(standby.ConnectionString))
        {
            // It hears nothing of what follows.
            await connection.OpenAsync();
            await connection.ExecuteAsync("alter system set primary_conninfo = ''");
            await connection.ExecuteAsync("select pg_reload_conf()");
            await TestServer.UntilAsync(async () => (long)(await connection.ExecuteAsync("select count(*) from pg_stat_wal_receiver"))! == 0, "the standby is cut off");
        }

        var last = 0L;
        for (var grant = 0; grant < 200; grant++)
        {
            last = await NextAsync(primary.ConnectionString, last);
        }

        await using (var connection = new NpgsqlConnection(standby.ConnectionString))
        {
            await connection.OpenAsync();
            await connection.ExecuteAsync("select pg_promote()");
            Assert.True((long)(await connection.ExecuteAsync("select pg_current_xact_id()::text::bigint"))! << 10 < (last & ((1L << 50) - 1)), "the standby was not behind");
        }

        await NextAsync(standby.ConnectionString, last);
    }

    [Fact]
    public async Task A_stale_writer_is_refused_in_the_sample()
    {
        await using var output = new StringWriter();
        Assert.True(await global::Fencing.StaleWriter.RunAsync((await PostgreSqlTestServer.ServerAsync).ConnectionString, output));
        Assert.Contains("its write was refused", output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_transaction_that_the_lock_does_not_know_and_that_has_its_number_is_refused()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await connection.ExecuteAsync("begin");
        await connection.ExecuteAsync("select pg_current_xact_id()");
        var @lock = new Lock(connection, Key, options: Fenced);
        Assert.Contains("transaction", (await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync(block: false).AsTask())).Message, StringComparison.Ordinal);
        Assert.False(await PostgreSqlTestServer.Instance.IsHeldAsync(Key));
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task They_leave_the_session_as_it_was(string driver, bool async)
    {
        await using var connection = await Drivers.OpenAsync(driver);
        await LockSpecification.ExecuteAsync(connection, "set synchronous_commit = off");
        var @lock = new Lock(connection, Key, Drivers.Interface(driver), Fenced);
        for (var round = 0; round < 3; round++)
        {
            Assert.True(round == 0 ? await @lock.Try(async) : await @lock.Acquire(async, TimeSpan.FromSeconds(10)));
            Assert.True(await @lock.Release(async));
        }

        Assert.Equal("off", await LockSpecification.ExecuteAsync(connection, "select current_setting('synchronous_commit')"));
    }

    [Fact]
    public async Task A_lock_of_a_pool_has_one_too_however_it_came_to_be_granted()
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await using var pool = new LockPool(source, options: FencedPool);
        await using var other = new LockPool(source, options: FencedPool);
        var (last, grants) = (0L, 0);
        await Task.WhenAll(Enumerable.Range(0, 40).Select(async task =>
        {
            for (var round = 0; round < 100; round++)
            {
                if (task == 0)
                {
                    // Somebody without a pool, on a connection of its own.
                    await using var single = await source.AcquireLockAsync(Key, options: Fenced);
                    Check(single.FencingToken);
                    continue;
                }

                await using var held = await (task % 2 == 0 ? pool : other).AcquireLockAsync(round % 10 == 0 ? LockKey.All(Key, $"{Key.Name}:{task}") : Key, shared: false);
                Check(held.FencingToken);
            }
        }));
        Assert.Equal(4000, grants);
        await using var plain = new LockPool(source);
        await using var without = await plain.AcquireLockAsync(Key);
        Assert.Null(without.FencingToken);

        void Check(long? token)
        {
            Assert.True(token > last, $"{token} after {last}");
            (last, grants) = (token!.Value, grants + 1);
        }
    }

    private async Task<long> NextAsync(string connectionString, long last)
    {
        await using var connection = new NpgsqlConnection(connectionString + ";Pooling=false");
        await connection.OpenAsync();
        await using var @lock = new Lock(connection, Key, options: Fenced);
        Assert.True(await @lock.AcquireAsync(block: false));
        Assert.True(@lock.FencingToken > last, $"{@lock.FencingToken} after {last}");
        return @lock.FencingToken!.Value;
    }
}
