namespace DbLock.Specification;

/// <content>What a pool gives, and for how long.</content>
public abstract partial class PoolSpecification
{
    [Fact]
    public async Task A_lock_is_held_until_it_is_disposed()
    {
        var pool = await PoolAsync();
        for (var use = 0; use < 3; use++)
        {
            var held = await pool.AcquireLockAsync(Key);
            Assert.True(held.IsHeld);
            Assert.Equal(Key, held.Key);
            Assert.True(await server.IsHeldAsync(Key));
            Assert.Null(await pool.TryAcquireLockAsync(Key));
            Assert.Null(await pool.TryAcquireLockAsync(Key, TimeSpan.FromMilliseconds(20)));
            Assert.True(await held.ReleaseAsync());
            Assert.False(await server.IsHeldAsync(Key));
            Assert.False(held.IsHeld);
            Assert.False(await held.ReleaseAsync());
            await held.DisposeAsync();
            Assert.False(held.Lost.IsCancellationRequested);
        }
    }

    [Fact]
    [Trait("Part", "Quick")]
    public async Task Heartbeats_lose_nothing_that_is_held()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        var elsewhere = await other.AcquireLockAsync(Name + "elsewhere");
        var wait = pool.AcquireLockAsync(Name + "elsewhere").AsTask();
        PooledLock[] held =
        [
            await pool.AcquireLockAsync(Key), await pool.AcquireLockAsync(LockKey.All(Name + 1, Name + 2, (Random.Shared.Next(), -2))),
            await pool.AcquireLockAsync(Name + 3, shared: server.HasShared),
            await pool.AcquireLockAsync(LockKey.All(Name + (server.HasShared ? 3 : 5), Name + 4), shared: server.HasShared),
        ];
        using var lost = CancellationTokenSource.CreateLinkedTokenSource([.. held.Select(one => one.Lost)]);
        await Assert.ThrowsAsync<TimeoutException>(() => Task.Delay(Timeout.Infinite, lost.Token).WaitAsync(TimeSpan.FromSeconds(2.5)));
        await BelievesAsync();
        foreach (var one in held)
        {
            Assert.True(await one.ReleaseAsync());
        }

        Assert.True(await elsewhere.ReleaseAsync());
        await (await wait).DisposeAsync();
    }

    [Fact]
    [Trait("Part", "Quick")]
    public async Task All_kinds_of_keys_are_the_locks_that_others_see()
    {
        var pool = await PoolAsync();
        var number = Random.Shared.NextInt64();
        LockKey[] keys =
        [
            number, -number, ((int)number, -7), (-1, int.MinValue + (int)(number & 0xFFFFFF)), Key, long.MinValue + (number & 0xFFFFFF),
            LockKey.All(Key, number, ((int)number, 3)),
        ];
        foreach (var key in keys)
        {
            foreach (var shared in Kinds)
            {
                await using (await pool.AcquireLockAsync(key, shared: shared))
                {
                    foreach (var one in key.Keys)
                    {
                        Assert.True(await server.IsHeldAsync(one));
                        Assert.Null(await TryWithoutPoolAsync(one));
                        if (!server.HasShared)
                        {
                            continue;
                        }

                        await using var otherShared = await TryWithoutPoolAsync(one, isShared: true);
                        Assert.Equal(shared, otherShared is not null);
                    }
                }

                foreach (var one in key.Keys)
                {
                    Assert.False(await server.IsHeldAsync(one));
                }
            }
        }
    }

    [Fact]
    public async Task A_shared_lock_has_no_fencing_token_and_is_refused_where_there_are_some()
    {
        var pool = await PoolAsync(options: Options with { Fencing = true });
        if (!server.HasFencing)
        {
            await Assert.ThrowsAsync<NotSupportedException>(() => pool.AcquireLockAsync(Key).AsTask());
            return;
        }

        var error = await Assert.ThrowsAsync<ArgumentException>(async () => await pool.AcquireLockAsync(Key, shared: true));
        Assert.Contains("would not grow", error.Message, StringComparison.Ordinal);
        await using var alone = await pool.AcquireLockAsync(Key);
        Assert.True(alone.FencingToken > 0);
    }

    [Fact]
    public async Task Bad_arguments_are_refused()
    {
        var pool = await PoolAsync();
        Assert.Throws<ArgumentNullException>(() => new LockPool(null!));
        await Assert.ThrowsAsync<ArgumentNullException>(async () => await pool.AcquireLockAsync(null!));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await pool.AcquireLockAsync(Key, TimeSpan.FromSeconds(-2)));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await pool.TryAcquireLockAsync(Key, TimeSpan.FromDays(25)));
    }
}
