using System.Diagnostics;

namespace DbLock.Specification;

/// <content>Who is held out by whom.</content>
public abstract partial class PoolSpecification
{
    [Fact]
    [Trait("Part", "Quick")]
    public async Task Shared_locks_are_held_together_and_an_exclusive_one_alone()
    {
        var pool = await PoolAsync();
        if (!server.HasShared)
        {
            // What was asked for beside it is not hurt, whether the pool knows its server yet or not.
            for (var round = 0; round < 2; round++)
            {
                var plain = pool.AcquireLockAsync(Name + "beside").AsTask();
                var error = await Assert.ThrowsAsync<NotSupportedException>(() => pool.AcquireLockAsync(Key, shared: true).AsTask());
                Assert.Contains("has no shared locks", error.Message, StringComparison.Ordinal);
                await (await plain).DisposeAsync();
            }

            return;
        }

        var (one, two) = (await pool.AcquireLockAsync(Key, shared: true), await pool.AcquireLockAsync(Key, shared: true));
        Assert.Null(await pool.TryAcquireLockAsync(Key));
        var alone = pool.AcquireLockAsync(Key).AsTask();

        // Who comes after one that wants it alone waits behind it.
        var after = pool.AcquireLockAsync(Key, shared: true).AsTask();
        Assert.Null(await pool.TryAcquireLockAsync(Key, shared: true));
        await one.DisposeAsync();
        Assert.False(alone.IsCompleted);
        await two.DisposeAsync();
        var held = await alone;
        Assert.False(after.IsCompleted);
        await held.DisposeAsync();
        await (await after).DisposeAsync();
        Assert.False(await server.IsHeldAsync(Key));
    }

    [Fact]
    public async Task A_lock_goes_on_being_shared_however_long_it_is_held()
    {
        if (!server.HasShared)
        {
            return;
        }

        var (pool, other) = (await PoolAsync(), await PoolAsync());
        await using var one = await pool.AcquireLockAsync(Key, shared: true);
        using var writes = new CancellationTokenSource();
        Task writer;
        using (ExecutionContext.SuppressFlow())
        {
            // Somebody of another process waits for it alone, so that this process's turn ends.
            writer = Task.Run(() => other.AcquireLockAsync(Key, cancellationToken: writes.Token).AsTask());
        }

        var clock = Stopwatch.StartNew();
        for (var readers = 0; clock.Elapsed < TimeSpan.FromMilliseconds(600); readers++)
        {
            await using var tried = await pool.TryAcquireLockAsync(Key, shared: true);
            Assert.NotNull(tried);
            await using var waited = await pool.AcquireLockAsync(Key, shared: true);
        }

        await writes.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => writer);
    }

    [Fact]
    [Trait("Part", "Quick")]
    public async Task Several_keys_are_acquired_all_or_none()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        LockKey a = Name + "a", b = Name + "b", c = Name + "c";
        await using (await other.AcquireLockAsync(b))
        {
            Assert.Null(await pool.TryAcquireLockAsync(LockKey.All(a, b, c)));
            Assert.Null(await pool.TryAcquireLockAsync(LockKey.All(a, b, c), TimeSpan.FromMilliseconds(50)));
            Assert.False(await server.IsHeldAsync(a));
            Assert.False(await server.IsHeldAsync(c));
            await using var free = await pool.AcquireLockAsync(LockKey.All(a, c));
        }

        await using (await pool.AcquireLockAsync(LockKey.All(a, b)))
        {
            var next = pool.AcquireLockAsync(LockKey.All(b, c)).AsTask();
            Assert.Null(await pool.TryAcquireLockAsync(b));
            Assert.False(next.IsCompleted);
            Assert.False(await server.IsHeldAsync(c));
            _ = next.ContinueWith(async held => await (await held).DisposeAsync(), TaskScheduler.Default);
        }

        await server.UntilFreeAsync(b);
        if (!server.HasShared)
        {
            return;
        }

        await using var shared = await pool.AcquireLockAsync(LockKey.All(a, b), shared: true);
        await using var sharedToo = await pool.AcquireLockAsync(LockKey.All(b, c), shared: true);
        Assert.Null(await pool.TryAcquireLockAsync(c));
    }

    [Fact]
    public async Task A_key_of_a_set_that_cannot_be_had_holds_up_nobody()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        LockKey a = Name + "a", b = Name + "b";
        foreach (var elsewhere in new[] { true, false })
        {
            var lacked = await (elsewhere ? other : pool).AcquireLockAsync(b);
            var set = pool.AcquireLockAsync(LockKey.All(a, b)).AsTask();
            for (var round = 0; round < 3; round++)
            {
                await using var free = await pool.AcquireLockAsync(a, TimeSpan.FromSeconds(30));
            }

            Assert.False(set.IsCompleted);
            await lacked.DisposeAsync();
            await (await set.WaitAsync(TimeSpan.FromSeconds(30))).DisposeAsync();
        }
    }

    [Fact]
    public async Task Tasks_of_several_processes_exclude_each_other()
    {
        var pools = new[] { await PoolAsync(), await PoolAsync(), await PoolAsync() };
        var keys = Enumerable.Range(0, 3).Select(n => (LockKey)$"{Name}{n}").ToList();
        var (readers, writers, entered) = (new int[3], new int[3], 0);
        await Task.WhenAll(Enumerable.Range(0, 30).Select(async task =>
        {
            var random = new Random(task);
            for (var round = 0; round < 60; round++)
            {
                var chosen = Enumerable.Range(0, 3).Where(_ => random.Next(2) == 0).DefaultIfEmpty(task % 3).ToList();
                var shared = server.HasShared && random.Next(3) == 0;
                await using var held = await pools[task % 3].AcquireLockAsync(LockKey.All(chosen.Select(n => keys[n])), shared: shared);
                foreach (var n in chosen)
                {
                    var (others, alone) = shared
                        ? (0, Interlocked.Increment(ref readers[n]))
                        : (Volatile.Read(ref readers[n]), Interlocked.Increment(ref writers[n]));
                    Assert.True(shared ? Volatile.Read(ref writers[n]) == 0 : others == 0 && alone == 1, "somebody else is inside");
                }

                await Task.Yield();
                entered++;
                foreach (var n in chosen)
                {
                    Interlocked.Decrement(ref shared ? ref readers[n] : ref writers[n]);
                }
            }
        }));
        foreach (var key in keys)
        {
            Assert.False(await server.IsHeldAsync(key));
        }

        Assert.True(entered > 0);
    }
}
