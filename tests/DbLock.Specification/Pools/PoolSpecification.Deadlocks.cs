using System.Diagnostics;

namespace DbLock.Specification;

/// <content>Tasks that wait for each other, and tasks that only wait.</content>
public abstract partial class PoolSpecification
{
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
        var pool = await PoolAsync(options: Options with { Logger = logger });

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
            () => Task.FromResult(logger.Warnings.Count(IsSuspicion) == count), "the wait is suspected");

        static bool IsSuspicion(string line) => line.Contains("acquired around the wait", StringComparison.Ordinal);
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
        var (first, clock) = (await pool.AcquireLockAsync(Key), Stopwatch.StartNew());
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
}
