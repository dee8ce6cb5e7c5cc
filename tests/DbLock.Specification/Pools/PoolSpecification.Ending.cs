using System.Runtime.CompilerServices;

namespace DbLock.Specification;

/// <content>Cancelled waits, lost carriers, forgotten locks, the end of a pool.</content>
public abstract partial class PoolSpecification
{
    [Fact]
    public async Task A_cancelled_wait_leaves_no_trace()
    {
        var pool = await PoolAsync();
        foreach (var elsewhere in new[] { true, false })
        {
            var held = elsewhere ? await TryWithoutPoolAsync(Key) : await pool.AcquireLockAsync(Key);
            using var cancel = new CancellationTokenSource();
            var waits = Enumerable.Range(0, 100).Select(_ => pool.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask()).ToList();
            await cancel.CancelAsync();
            foreach (var wait in waits)
            {
                var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
                Assert.Equal(cancel.Token, error.CancellationToken);
            }

            await Assert.ThrowsAnyAsync<OperationCanceledException>(
                () => pool.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask());
            await held!.DisposeAsync();
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
                    ? pool.AcquireLockAsync(key, shared: server.HasShared && round % 3 == 0, cancellationToken: cancel.Token).AsTask()
                    : pool.TryAcquireLockAsync(key, TimeSpan.FromMilliseconds(1), server.HasShared && round % 3 == 0).AsTask()!;
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
        await Task.WhenAll(told.Select(async lost =>
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => lost.WaitAsync(TimeSpan.FromSeconds(20)))));
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
    public async Task A_lock_that_nobody_has_any_more_is_let_go_and_that_is_logged()
    {
        var logger = new RecordingLogger();
        var pool = await PoolAsync(options: Options with { Logger = logger });
        await AbandonAsync();
        await TestServer.UntilAsync(
            async () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !await server.IsHeldAsync(Key);
            },
            "the lock is free");

        // It is let go first, and logged then.
        await TestServer.UntilAsync(() => Task.FromResult(logger.Warnings.Any(IsOfIt)), "it is logged");
        var warning = Assert.Single(logger.Warnings, IsOfIt);
        Assert.Contains(Key.ToString(), warning, StringComparison.Ordinal);

        static bool IsOfIt(string line) => line.Contains("nobody has it any more", StringComparison.Ordinal);

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync()
        {
            // Another test's garbage collection must not find it before it was seen.
            var held = await pool.AcquireLockAsync(Key);
            Assert.True(await server.IsHeldAsync(Key));
            GC.KeepAlive(held);
        }
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
    public async Task A_pool_can_be_disposed_at_any_moment()
    {
        await using var held = await (await PoolAsync()).AcquireLockAsync(Key);
        for (var round = 0; round < 30; round++)
        {
            var pool = new LockPool(Opened(await CreateSourceAsync()), lockInterface, Options);
            LockKey[] keys = [Key, Name + "free", LockKey.All(Key, Name + "free")];
            var waits = keys.Select(key => pool.AcquireLockAsync(key).AsTask()).ToList();
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
}
