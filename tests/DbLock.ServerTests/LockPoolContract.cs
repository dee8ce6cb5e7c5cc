using System.Collections.Concurrent;
using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock.ServerTests;

/// <summary>What a pool promises over every driver that can carry locks. A pool stands for a process: two pools know nothing of each other but what the server tells.</summary>
public abstract class LockPoolContract(TestServer server, LockInterface lockInterface) : IAsyncDisposable
{
    private readonly List<IAsyncDisposable> _opened = [];

    protected string Name { get; } = "pool:" + Guid.NewGuid();

    protected LockKey Key => Name;

    public async ValueTask DisposeAsync()
    {
        foreach (var opened in Enumerable.Reverse(_opened))
        {
            await opened.DisposeAsync();
        }
    }

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
            await pool.AcquireLockAsync(Name + 3, shared: true), await pool.AcquireLockAsync(LockKey.All(Name + 3, Name + 4), shared: true),
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
        foreach (var key in new LockKey[] { number, -number, ((int)number, -7), (-1, int.MinValue + (int)(number & 0xFFFFFF)), Key, long.MinValue + (number & 0xFFFFFF), LockKey.All(Key, number, ((int)number, 3)) })
        {
            foreach (var shared in new[] { false, true })
            {
                await using (await pool.AcquireLockAsync(key, shared: shared))
                {
                    var other = await ConnectAsync();
                    foreach (var one in key.Keys)
                    {
                        Assert.True(await server.IsHeldAsync(one));
                        Assert.False(await new Lock(other, one).AcquireAsync(block: false));
                        using var otherShared = new Lock(other, one, options: new LockOptions { Shared = true });
                        Assert.Equal(shared, await otherShared.AcquireAsync(block: false));
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
    [Trait("Part", "Quick")]
    public async Task Shared_locks_are_held_together_and_an_exclusive_one_alone()
    {
        var pool = await PoolAsync();
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
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        await using var one = await pool.AcquireLockAsync(Key, shared: true);
        using var writes = new CancellationTokenSource();
        Task writer;
        using (ExecutionContext.SuppressFlow())
        {
            // Somebody of another process waits for it alone, so that this process's turn ends.
            writer = Task.Run(() => other.AcquireLockAsync(Key, cancellationToken: writes.Token).AsTask());
        }

        var clock = System.Diagnostics.Stopwatch.StartNew();
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
        await using var shared = await pool.AcquireLockAsync(LockKey.All(a, b), shared: true);
        await using var sharedToo = await pool.AcquireLockAsync(LockKey.All(b, c), shared: true);
        Assert.Null(await pool.TryAcquireLockAsync(c));
    }

    [Fact]
    public async Task A_cancelled_wait_leaves_no_trace()
    {
        var pool = await PoolAsync();
        var holder = await ConnectAsync();
        foreach (var elsewhere in new[] { true, false })
        {
            using var held = new Lock(holder, Key);
            var here = elsewhere ? null : await pool.AcquireLockAsync(Key);
            Assert.Equal(elsewhere, await held.AcquireAsync(block: false));
            using var cancel = new CancellationTokenSource();
            var waits = Enumerable.Range(0, 100).Select(_ => pool.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask()).ToList();
            await cancel.CancelAsync();
            foreach (var wait in waits)
            {
                var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
                Assert.Equal(cancel.Token, error.CancellationToken);
            }

            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => pool.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask());
            await (here is null ? held.DisposeAsync() : here.DisposeAsync());
            Assert.False(await server.IsHeldAsync(Key));
        }
    }

    [Fact]
    public async Task A_cancel_or_timeout_that_meets_the_grant_leaves_nothing_and_loses_nothing()
    {
        var pool = await PoolAsync();
        var keys = Enumerable.Range(0, 4).Select(n => (LockKey)$"{Name}{n}").ToList();
        var (granted, not) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async task =>
        {
            var random = new Random(task);
            for (var round = 0; round < 500; round++)
            {
                using var cancel = new CancellationTokenSource();
                var key = round % 5 == 0 ? LockKey.All(keys[random.Next(4)], keys[random.Next(4)]) : keys[random.Next(4)];
                var acquire = round % 2 == 0
                    ? pool.AcquireLockAsync(key, shared: round % 3 == 0, cancellationToken: cancel.Token).AsTask()
                    : pool.TryAcquireLockAsync(key, TimeSpan.FromMilliseconds(1), round % 3 == 0).AsTask()!;
                for (var spin = random.Next(300); spin > 0; spin--)
                {
                    Thread.SpinWait(20);
                }

                await cancel.CancelAsync();
                var held = await acquire.ContinueWith(task => task.IsCompletedSuccessfully ? task.Result : null, TaskScheduler.Default);
                Interlocked.Increment(ref held is null ? ref not : ref granted);
                await (held?.DisposeAsync() ?? ValueTask.CompletedTask);
            }
        }));
        Assert.True(granted > 100 && not > 100, $"{granted} granted, {not} not");
        foreach (var key in keys)
        {
            await server.UntilFreeAsync(key);
            await using var last = await pool.TryAcquireLockAsync(key);
            Assert.NotNull(last);
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
                var shared = random.Next(3) == 0;
                await using var held = await pools[task % 3].AcquireLockAsync(LockKey.All(chosen.Select(n => keys[n])), shared: shared);
                foreach (var n in chosen)
                {
                    var (others, alone) = shared ? (0, Interlocked.Increment(ref readers[n])) : (Volatile.Read(ref readers[n]), Interlocked.Increment(ref writers[n]));
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

    [Fact]
    public async Task A_lost_carrier_tells_each_of_its_locks_and_is_replaced()
    {
        var pool = await PoolAsync();
        var held = await Task.WhenAll(Enumerable.Range(0, 100).Select(n => pool.AcquireLockAsync($"{Name}{n}").AsTask()));
        var told = held.Select(one => Task.Delay(Timeout.Infinite, one.Lost)).ToList();
        Task<PooledLock> wait;
        using (ExecutionContext.SuppressFlow())
        {
            wait = Task.Run(() => pool.AcquireLockAsync($"{Name}0").AsTask());
        }

        await KillHolderAsync($"{Name}1");
        await Task.WhenAll(told.Select(async lost => await Assert.ThrowsAnyAsync<OperationCanceledException>(() => lost.WaitAsync(TimeSpan.FromSeconds(20)))));
        Assert.All(held, one => Assert.False(one.IsHeld));
        await Assert.ThrowsAsync<LockLostException>(() => held[0].ReleaseAsync().AsTask());
        Assert.False(await held[0].ReleaseAsync());
        await held[1].DisposeAsync();

        // Who waited has it now, on another connection.
        await using var next = await wait.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.True(next.IsHeld);
        Assert.True(await server.IsHeldAsync($"{Name}0"));
        Assert.True(await next.ReleaseAsync());
    }

    [Fact]
    public async Task Tasks_that_wait_for_each_other_are_found()
    {
        var pool = await PoolAsync();
        LockKey x = Name + "x", y = Name + "y";
        using var both = new Barrier(2);
        var ended = await Task.WhenAll(Cross(x, y), Cross(y, x)).WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Single(ended, error => error is LockDeadlockException);
        Assert.Single(ended, error => error is null);
        Assert.False(await server.IsHeldAsync(x));
        Assert.False(await server.IsHeldAsync(y));

        async Task<Exception?> Cross(LockKey first, LockKey second)
        {
            await Task.Yield();
            await using var one = await pool.AcquireLockAsync(first);
            await Task.Run(both.SignalAndWait);
            try
            {
                await using var two = await pool.AcquireLockAsync(second);
                return null;
            }
            catch (LockDeadlockException e)
            {
                Assert.Contains($"still held: '{first}'", e.Message, StringComparison.Ordinal);
                return e;
            }
        }
    }

    [Fact]
    public async Task Who_waits_for_a_lock_that_another_task_lets_go_of_is_in_no_deadlock_however_the_lock_came_there()
    {
        var logger = new RecordingLogger();
        var pool = await PoolAsync(options: new LockPoolOptions { Logger = logger });

        // Handed to a worker that lets go of it.
        var handed = await pool.AcquireLockAsync(Key);
        var again = pool.AcquireLockAsync(Key).AsTask();
        await UntilSuspectedAsync(1);
        Assert.False(again.IsCompleted);
        await handed.DisposeAsync();
        var held = await again;

        // Waited for by a task that was started under it.
        var started = Task.Run(() => pool.AcquireLockAsync(Key).AsTask());
        await UntilSuspectedAsync(2);
        Assert.False(started.IsCompleted);
        await held.DisposeAsync();
        await (await started).DisposeAsync();

        Task UntilSuspectedAsync(int count) => TestServer.UntilAsync(
            () => Task.FromResult(logger.Warnings.Count(line => line.Contains("acquired around the wait", StringComparison.Ordinal)) == count), "the wait is suspected");
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
    public async Task A_lock_that_nobody_has_any_more_is_let_go_and_that_is_logged()
    {
        var logger = new RecordingLogger();
        var pool = await PoolAsync(options: new LockPoolOptions { Logger = logger });
        await AbandonAsync();
        Assert.True(await server.IsHeldAsync(Key));
        await TestServer.UntilAsync(
            async () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !await server.IsHeldAsync(Key);
            },
            "the lock is free");
        Assert.Contains(Key.ToString(), Assert.Single(logger.Warnings, line => line.Contains("nobody has it any more", StringComparison.Ordinal)), StringComparison.Ordinal);

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync() => await pool.AcquireLockAsync(Key);
    }

    [Fact]
    public async Task Locking_hand_over_hand_keeps_nothing_of_what_was_let_go()
    {
        var pool = await PoolAsync();
        var former = new List<WeakReference>();
        await using var last = await WalkAsync();
        await TestServer.UntilAsync(
            () =>
            {
                GC.Collect();
                return Task.FromResult(former.Count(one => one.IsAlive) < 5);
            },
            "what was let go is forgotten");
        Assert.True(last.IsHeld);

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task<PooledLock> WalkAsync()
        {
            var held = new Queue<PooledLock>();
            for (var n = 0; n < 100; n++)
            {
                held.Enqueue(await pool.AcquireLockAsync($"{Name}{n}"));
                if (held.Count > 3)
                {
                    var first = held.Dequeue();
                    former.Add(new WeakReference(first));
                    former.Add(new WeakReference(first.Key));
                    await first.DisposeAsync();
                }
            }

            while (held.Count > 1)
            {
                await held.Dequeue().DisposeAsync();
            }

            return held.Dequeue();
        }
    }

    [Fact]
    public async Task A_shared_lock_has_no_fencing_token_and_is_refused_where_there_are_some()
    {
        var pool = await PoolAsync(options: new LockPoolOptions { Fencing = true });
        var error = await Assert.ThrowsAsync<ArgumentException>(async () => await pool.AcquireLockAsync(Key, shared: true));
        Assert.Contains("would not grow", error.Message, StringComparison.Ordinal);
        await using var alone = await pool.AcquireLockAsync(Key);
        Assert.True(alone.FencingToken > 0);
    }

    [Fact]
    public async Task Tasks_that_only_wait_are_no_deadlock()
    {
        var pool = await PoolAsync();
        LockKey x = Name + "x", y = Name + "y";
        var held = await pool.AcquireLockAsync(x);
        Task<PooledLock> waits;
        using (ExecutionContext.SuppressFlow())
        {
            waits = Task.Run(async () =>
            {
                await using var other = await pool.AcquireLockAsync(y);
                return await pool.AcquireLockAsync(x);
            });
        }

        await TestServer.UntilAsync(() => server.IsHeldAsync(y), "the other holds y");
        await Task.WhenAny(waits, Task.Delay(TimeSpan.FromSeconds(2.5)));
        Assert.False(waits.IsCompleted);
        await held.DisposeAsync();
        await (await waits).DisposeAsync();
    }

    [Fact]
    public async Task Waits_that_a_task_only_starts_are_no_part_of_each_other()
    {
        var pool = await PoolAsync();
        await using var outside = await pool.AcquireLockAsync(Name + "outside");
        var (first, clock) = (await pool.AcquireLockAsync(Key), System.Diagnostics.Stopwatch.StartNew());
        Task<List<Task<PooledLock>>> starting;
        using (ExecutionContext.SuppressFlow())
        {
            starting = Task.Run(() => Enumerable.Range(0, 2000).Select(_ => pool.AcquireLockAsync(Key).AsTask()).ToList());
        }

        var waits = await starting;

        // Long enough for the search for deadlocks, which must find none and take no time.
        await TestServer.UntilAsync(() => Task.FromResult(clock.Elapsed > TimeSpan.FromSeconds(1.5)), "the search has been made");
        Assert.All(waits, wait => Assert.False(wait.IsCompleted));
        await first.DisposeAsync();
        foreach (var wait in waits)
        {
            await (await wait).DisposeAsync();
        }
    }

    [Fact]
    public async Task A_pool_can_be_disposed_at_any_moment()
    {
        await using var held = await (await PoolAsync()).AcquireLockAsync(Key);
        for (var round = 0; round < 30; round++)
        {
            var pool = new LockPool(await SourceAsync(), lockInterface);
            var waits = new[] { Key, LockKey.From(Name + "free"), LockKey.All(Key, Name + "free") }.Select(key => pool.AcquireLockAsync(key).AsTask()).ToList();
            for (var spin = Random.Shared.Next(3000); spin > 0; spin--)
            {
                Thread.SpinWait(20);
            }

            await pool.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));
            foreach (var wait in waits)
            {
                var error = await Record.ExceptionAsync(async () => await (await wait.WaitAsync(TimeSpan.FromSeconds(30))).DisposeAsync());
                Assert.True(error is null or ObjectDisposedException, $"{error}");
            }

            Assert.False(await server.IsHeldAsync(Name + "free"));
        }
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

    /// <summary>Makes a data source of its own.</summary>
    protected abstract Task<DbDataSource> CreateSourceAsync(string more);

    /// <summary>Ends the session that holds a lock.</summary>
    protected abstract Task KillHolderAsync(LockKey key);

    /// <summary>Asserts that no pool doubts what it holds, where that can be seen.</summary>
    protected virtual Task BelievesAsync() => Task.CompletedTask;

    protected async Task<DbDataSource> SourceAsync(string more = "")
    {
        var source = await CreateSourceAsync(more);
        _opened.Add(source);
        return source;
    }

    protected async Task<LockPool> PoolAsync(string more = "", LockPoolOptions? options = null)
    {
        var pool = new LockPool(await SourceAsync(more), lockInterface, options);
        _opened.Add(pool);
        return pool;
    }

    protected async Task<DbConnection> ConnectAsync(string more = "")
    {
        var connection = await (await SourceAsync(more)).OpenConnectionAsync();
        _opened.Add(connection);
        return connection;
    }
}
