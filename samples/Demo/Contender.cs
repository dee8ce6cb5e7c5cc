using System.Data.Common;
using System.Diagnostics;
using DbLock;
using Lock = DbLock.Lock; // .NET has a System.Threading.Lock, too

namespace Demo;

/// <summary>One of a worker's tasks: with a connection for the lock, and another one for the counter.</summary>
internal sealed class Contender(DbConnection connection, LockInterface lockInterface, Counter counter, int number)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(60);

    public static async Task<Contender> ConnectAsync(string driver, int number)
    {
        var connection = Drivers.NewConnection(driver);
        await connection.OpenAsync();
        return new(connection, Drivers.Interface(driver), await Counter.OpenAsync(), number);
    }

    public async Task IncrementUnlockedAsync(TimeSpan time)
    {
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < time;)
        {
            await counter.IncrementAsync();
            Console.WriteLine("done 0 0");
        }
    }

    /// <summary>Increments under the lock that all tasks of all workers share.</summary>
    public Task IncrementLockedAsync(TimeSpan time) => RepeatAsync("dblock-demo/counter", counter.IncrementAsync, time);

    /// <summary>Takes a lock that nobody else wants, to see what that costs.</summary>
    public Task LockAloneAsync(TimeSpan time) => RepeatAsync($"dblock-demo/{Environment.ProcessId}", () => Task.CompletedTask, time);

    private async Task RepeatAsync(LockKey key, Func<Task> work, TimeSpan time)
    {
        var @lock = new Lock(connection, key, lockInterface);
        var clock = Stopwatch.StartNew();
        for (var turn = number; clock.Elapsed < time; turn++)
        {
            var start = Stopwatch.GetTimestamp();
            if (!await AcquireAsync(@lock, turn))
            {
                Console.WriteLine("given-up"); // another task had it
                continue;
            }

            var acquire = Stopwatch.GetElapsedTime(start);
            try
            {
                await work();
            }
            catch (Exception error)
            {
                await @lock.HandleErrorAsync(error); // then the release cannot throw over it
                throw;
            }
            finally
            {
                start = Stopwatch.GetTimestamp();
                _ = turn % 2 == 0 ? await @lock.ReleaseAsync() : @lock.Release();
            }

            var release = Stopwatch.GetElapsedTime(start);
            Console.WriteLine($"done {acquire.TotalMicroseconds:0} {release.TotalMicroseconds:0}");
        }
    }

    // Every way to ask for a lock, in turns.
    private static async ValueTask<bool> AcquireAsync(Lock @lock, int turn) => (turn % 6) switch
    {
        0 => await @lock.AcquireAsync(),
        1 => @lock.Acquire(),
        2 => await @lock.AcquireAsync(Patience),
        3 => @lock.Acquire(Patience),
        4 => await @lock.AcquireAsync(block: false),
        _ => @lock.Acquire(block: false),
    };
}
