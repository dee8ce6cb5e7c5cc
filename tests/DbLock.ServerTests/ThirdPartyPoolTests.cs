using Npgsql;
using ThirdParty;

namespace DbLock.ServerTests;

/// <summary>A driver that listens and a dialect that carries a pool, from outside src/ and without friend access.</summary>
public sealed class ThirdPartyPoolTests : IAsyncDisposable
{
    private readonly List<IAsyncDisposable> _opened = [];

    private string Name { get; } = "third:" + Guid.NewGuid();

    private LockKey Key => Name;

    public async ValueTask DisposeAsync()
    {
        foreach (var opened in Enumerable.Reverse(_opened))
        {
            await opened.DisposeAsync();
        }
    }

    [Fact]
    public async Task It_holds_what_others_see_of_every_kind()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        var number = Random.Shared.NextInt64();
        foreach (var key in new LockKey[] { Key, -number, ((int)number, -7), LockKey.All(Key, number, ((int)number, 3)) })
        {
            foreach (var shared in new[] { false, true })
            {
                await using (var held = await pool.AcquireLockAsync(key, shared: shared))
                {
                    Assert.All(await Task.WhenAll(key.Keys.Select(one => PostgreSqlTestServer.Instance.IsHeldAsync(one))), Assert.True);
                    Assert.Null(await other.TryAcquireLockAsync(key));
                    await using var second = await other.TryAcquireLockAsync(key, shared: true);
                    Assert.Equal(shared, second is not null);
                    Assert.True(held.IsHeld);
                }

                Assert.All(await Task.WhenAll(key.Keys.Select(one => PostgreSqlTestServer.Instance.IsHeldAsync(one))), Assert.False);
            }
        }
    }

    [Fact]
    public async Task A_set_that_cannot_be_had_whole_leaves_nothing_behind()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        await using var held = await other.AcquireLockAsync(Name + "taken");
        Assert.Null(await pool.TryAcquireLockAsync(LockKey.All(Name + "free", Name + "taken")));
        await using var free = await other.TryAcquireLockAsync(Name + "free");
        Assert.NotNull(free);
    }

    [Fact]
    public async Task A_release_by_another_pool_is_heard()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        var held = await pool.AcquireLockAsync(Key);
        var wait = other.AcquireLockAsync(Key).AsTask();
        await TestServer.UntilAsync(
            async () =>
            {
                await using var listening = new NpgsqlCommand("select count(*) > 0 from pg_stat_activity where query = 'listen thirdparty_pool'", observer);
                return (bool)(await listening.ExecuteScalarAsync())!;
            },
            "the other listens");
        Assert.False(wait.IsCompleted);
        Assert.True(await held.ReleaseAsync());
        await (await wait.WaitAsync(TimeSpan.FromSeconds(30))).DisposeAsync();
    }

    [Fact]
    public async Task Its_loss_is_told()
    {
        var pool = await PoolAsync();
        await using var held = await pool.AcquireLockAsync(Key);
        var lost = new TaskCompletionSource();
        await using var registration = held.Lost.Register(lost.SetResult);
        await PostgreSqlTestServer.Instance.KillHolderAsync(Key);
        await lost.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(async () => await held.ReleaseAsync());
    }

    private async Task<LockPool> PoolAsync()
    {
        var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        _opened.Add(source);
        var pool = new LockPool(source, LockInterface.Plain, new LockPoolOptions { Dialect = new CarryingDialect() });
        _opened.Add(pool);
        return pool;
    }
}
