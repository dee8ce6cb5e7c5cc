using System.Data.Common;

namespace DbLock.ServerTests;

/// <summary>A program all of whose pooled threads are blocked. It must be a process of its own (<see cref="OtherProcessTests"/>).</summary>
[Trait("Part", "Quick")]
public sealed class StarvedProgram
{
    private const int Threads = 16;

    private string Key { get; } = "starved:" + Guid.NewGuid();

    [Fact(Explicit = true)]
    public async Task Keeps_its_leases()
    {
        var options = new LockOptions { Scope = LockScope.Lease };
        List<(LockKey[] Keys, DbDataSource Other, IAsyncDisposable[] Opened, Func<bool> IsHeld)> all = [];

        // Not MySql.Data, whose blocking calls need a thread of the pool themselves.
        foreach (var way in (string[])["Npgsql", "MySqlConnector", "Odbc on PostgreSQL", "Odbc on MariaDB", "Sqlite"])
        {
            await LeaseServers.SourceAsync(way);
            var (source, other) = (await LeaseServers.NewSourceAsync(way), await LeaseServers.NewSourceAsync(way));
            var pool = new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Lease });
            LockKey[] keys = [$"{Key}:{way}:alone", $"{Key}:{way}:pooled"];
            var (alone, pooled) = (await source.AcquireLockAsync(keys[0], null, null, options), await pool.AcquireLockAsync(keys[1]));
            all.Add((keys, other, [alone, pooled, pool, source, other], () => alone.IsHeld && pooled.IsHeld));
        }

        using var gate = new ManualResetEventSlim();
        using var blocked = new CountdownEvent(Threads);
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Assert.True(ThreadPool.SetMinThreads(Threads, Threads));
        Assert.True(ThreadPool.SetMaxThreads(Threads, Threads));
        new Thread(() =>
        {
            try
            {
                for (var n = 0; n < Threads; n++)
                {
                    ThreadPool.QueueUserWorkItem(_ =>
                    {
                        blocked.Signal();
                        gate.Wait();
                    });
                }

                blocked.Wait();
                var firsts = all.ConvertAll(one => Array.ConvertAll(one.Keys, key => Until(one.Other, key)));
                Assert.All(all.Zip(firsts), one =>
                {
                    foreach (var (key, first) in one.First.Keys.Zip(one.Second))
                    {
                        // One renewal may have been under way.
                        while (Until(one.First.Other, key) < first + (options.Lease / 2))
                        {
                            gate.Wait(100);
                        }
                    }

                    Assert.True(one.First.IsHeld());
                });
                done.SetResult();
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
            finally
            {
                gate.Set();
            }
        }).Start();
        await done.Task;
        foreach (var opened in all.SelectMany(one => one.Opened))
        {
            await opened.DisposeAsync();
        }

        DateTimeOffset Until(DbDataSource other, LockKey key)
        {
            while (true)
            {
                var error = Record.Exception(() => other.AcquireLock(key, TimeSpan.Zero, null, options));
                if (error is LockNotAcquiredException { Holders: { } holders })
                {
                    return Assert.Single(holders).Lease!.Until;
                }

                // .NET 10: what comes between the first look of a socket's blocking read and its wait is told by a thread of the pool. So an
                // answer may have to wait for the command's time, and who holds it is told within a second or not at all.
                Assert.True(
                    error is LockNotAcquiredException || (error is LockException && error.ToString().Contains(nameof(TimeoutException), StringComparison.Ordinal)),
                    $"'{key}': {error}");
            }
        }
    }
}
