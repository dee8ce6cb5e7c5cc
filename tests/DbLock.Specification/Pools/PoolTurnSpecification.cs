using System.Collections.Concurrent;

namespace DbLock.Specification;

/// <summary>
/// What pools that hear each other promise: each process has its turn. Without that, releases are found at intervals, and there is no turn
/// to wait for.
/// </summary>
/// <param name="server">The server, as an observer sees it.</param>
/// <param name="lockInterface">The driver.</param>
public abstract class PoolTurnSpecification(TestServer server, LockInterface lockInterface)
    : PoolSpecification(server, lockInterface)
{
    [Fact]
    public async Task Readers_that_never_end_do_not_keep_another_process_out()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        using var stop = new CancellationTokenSource();
        var readers = Enumerable.Range(0, 4).Select(n => Task.Run(async () =>
        {
            for (; !stop.IsCancellationRequested; await Task.Yield())
            {
                await using var held = await pool.AcquireLockAsync(Key, shared: true);
                await Task.Delay(1 + n);
            }
        })).ToList();
        for (var turn = 0; turn < 3; turn++)
        {
            await (await other.AcquireLockAsync(Key).AsTask().WaitAsync(TimeSpan.FromSeconds(30))).DisposeAsync();
        }

        await stop.CancelAsync();
        await Task.WhenAll(readers);
    }

    [Fact]
    public async Task Other_processes_get_their_turn_however_many_tasks_of_one_want_the_key()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        var counts = new ConcurrentDictionary<LockPool, int>();
        await Task.WhenAll(Enumerable.Range(0, 100).Select(async task =>
        {
            var mine = task % 2 == 0 ? pool : other;
            while (!stop.IsCancellationRequested)
            {
                await using var held = await mine.AcquireLockAsync(Key);
                counts.AddOrUpdate(mine, 1, (_, count) => count + 1);
                await Task.Yield();
            }
        }));
        Assert.All(counts.Values, count => Assert.True(count * 5 > counts.Values.Sum(), string.Join(" and ", counts.Values)));
    }

    [Fact]
    public async Task Another_process_that_waits_gets_its_turn_from_one_task_that_takes_the_key_again_and_again()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        using var stop = new CancellationTokenSource();
        var greedy = Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                await using var held = await pool.AcquireLockAsync(Key);
                await Task.Yield();
            }
        });
        for (var turn = 0; turn < 5; turn++)
        {
            await (await other.AcquireLockAsync(Key).AsTask().WaitAsync(TimeSpan.FromSeconds(20))).DisposeAsync();
        }

        await stop.CancelAsync();
        await greedy;
    }
}
