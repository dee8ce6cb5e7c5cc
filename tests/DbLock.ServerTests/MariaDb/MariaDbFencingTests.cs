using System.Data.Common;
using DbLock.LocalServers;

namespace DbLock.ServerTests.MariaDb;

public sealed class MariaDbFencingTests
{
    private static readonly LockOptions Fenced = new() { Fencing = true };

    private LockKey Key { get; } = "fencing:" + Guid.NewGuid();

    [Theory, MemberData(nameof(MariaDbDrivers.Both), MemberType = typeof(MariaDbDrivers))]
    public async Task Without_a_sequence_nothing_is_taken_and_the_error_says_how_to_make_one(string driver, bool async)
    {
        await using var connection = await MariaDbDrivers.OpenAsync(driver);
        await ExecuteAsync(connection, "use mysql");
        var @lock = new Lock(connection, Key, options: Fenced);
        var error = await Assert.ThrowsAsync<LockException>(() => @lock.Try(async));
        Assert.Contains("create sequence dblock_fencing", error.Message, StringComparison.Ordinal);
        Assert.False(await MariaDbTestServer.Instance.IsHeldAsync(Key));
        Assert.True(await new Lock(connection, Key).Try(async));
    }

    [Theory, MemberData(nameof(MariaDbDrivers.All), MemberType = typeof(MariaDbDrivers))]
    public async Task Tokens_of_a_pool_and_of_locks_grow_together_also_where_tasks_hand_over_in_memory(string driver)
    {
        await using var source = await MariaDbDrivers.CreateSourceAsync(driver);
        await using var pool = new LockPool(source, options: new LockPoolOptions { Fencing = true });
        await using var connection = await MariaDbDrivers.OpenAsync(driver);
        var alone = new Lock(connection, Key, options: Fenced);
        var last = 0L;
        for (var round = 0; round < 20; round++)
        {
            var first = await pool.AcquireLockAsync(Key);
            var waiting = Enumerable.Range(0, 5).Select(_ => pool.AcquireLockAsync(Key).AsTask()).ToList();
            last = Greater(first.FencingToken, last);
            await first.DisposeAsync();
            foreach (var next in waiting)
            {
                await using var held = await next;
                last = Greater(held.FencingToken, last);
            }

            Assert.True(await alone.AcquireAsync(TimeSpan.FromSeconds(30)));
            last = Greater(alone.FencingToken, last);
            Assert.True(await alone.ReleaseAsync());
        }
    }

    [Fact]
    public async Task Tokens_grow_over_restarts_of_the_server()
    {
        await using var server = await MariaDbServer.StartAsync();
        await using (var connection = await OpenAsync(server))
        {
            await ExecuteAsync(connection, "set global innodb_flush_log_at_trx_commit = 1");
            await ExecuteAsync(connection, "create sequence if not exists dblock_fencing");
        }

        var last = 0L;
        for (var restart = 0; restart < 3; restart++)
        {
            await using (var connection = await OpenAsync(server))
            {
                await ExecuteAsync(connection, "set global innodb_flush_log_at_trx_commit = 1");
                await using var @lock = new Lock(connection, Key, options: Fenced);
                for (var round = 0; round < 5; round++)
                {
                    Assert.True(await @lock.AcquireAsync(block: false));
                    last = Greater(@lock.FencingToken, last);
                    Assert.True(await @lock.ReleaseAsync());
                }
            }

            await server.RestartAsync();
        }
    }

    private static long Greater(long? token, long last)
    {
        Assert.True(token > last, $"{token} after {last}");
        return token!.Value;
    }

    private static async Task<DbConnection> OpenAsync(MariaDbServer server)
    {
        var connection = new MySqlConnector.MySqlConnection(server.ConnectionString + ";Pooling=false");
        await connection.OpenAsync();
        return connection;
    }

    private static async Task ExecuteAsync(DbConnection connection, string sql)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }
}
