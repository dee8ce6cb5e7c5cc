using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using DbLock.LocalServers;
using MySqlConnector;

namespace DbLock.ServerTests;

/// <summary>Leases while servers die, on a cluster of three Galera nodes.</summary>
public sealed class LeaseClusterTests
{
    [Fact]
    public async Task On_a_Galera_cluster_a_lease_has_one_holder_whichever_node_is_asked_and_while_one_of_them_dies_and_comes_back()
    {
        await using var cluster = await MariaDbCluster.StartAsync();
        await using var first = Source(0);
        await LeaseTable.Default.CreateAsync(first);

        // A commit pauses for six seconds when a node has died.
        var options = new LockOptions { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(20) };
        DbDataSource[] sources = [first, Source(1), Source(2)];
        for (var round = 0; round < 100; round++)
        {
            // A node that is behind may take a lease that was let go of on another for held, but not for long; and none for free that is held.
            await using var held = await sources[round % 3].AcquireLockAsync("lease: round and round", TimeSpan.FromSeconds(10), null, options);
            Assert.Null(await sources[(round + 1) % 3].TryAcquireLockAsync(held.Key, default, null, options));
            Assert.Null(await sources[(round + 2) % 3].TryAcquireLockAsync(held.Key, default, null, options));
        }

        await using var run = new Run(options, [.. Enumerable.Range(0, 6).Select(n => Source(n % 3))]);
        var kept = await first.AcquireLockAsync("lease: outlives a node", null, null, options);
        await run.UntilGrantsAsync(100);
        var start = Stopwatch.GetTimestamp();
        await cluster.KillAsync(1);
        await run.UntilGrantsAsync(1, of: [0, 2, 3, 5]);
        Tell($"after a node was killed, a lease was granted again within {Stopwatch.GetElapsedTime(start).TotalMilliseconds:0} ms");
        await run.UntilGrantsAsync(50);
        await cluster.ReturnAsync(1);
        await run.UntilGrantsAsync(3, of: [1, 4]);
        Assert.True(kept.IsHeld);
        Assert.Null(await sources[2].TryAcquireLockAsync(kept.Key, default, null, options));
        Assert.True(await kept.ReleaseAsync());
        await run.EndAsync();
        foreach (var source in sources)
        {
            await source.DisposeAsync();
        }

        MySqlDataSource Source(int node) => new(cluster.Nodes[node].ConnectionString + ";Connection Timeout=3");
    }

    private static void Tell(FormattableString what) => TestContext.Current.SendDiagnosticMessage(what.ToString(CultureInfo.InvariantCulture));

    /// <summary>Tasks, each with a data source as a process has one, that take leases of a few keys and watch that they are alone.</summary>
    private sealed class Run : IAsyncDisposable
    {
        private const int Keys = 3;

        private static readonly LockKey[] Wanted = [.. Enumerable.Range(0, Keys).Select(n => (LockKey)$"lease: cluster {n}")];

        private readonly CancellationTokenSource _end = new();
        private readonly LeaseLedger _ledger = new(Wanted);
        private readonly LockOptions _options;
        private readonly long[] _grants;
        private readonly Task _all;

        public Run(LockOptions options, IReadOnlyList<DbDataSource> sources)
        {
            (_options, Sources, _grants) = (options, sources, new long[sources.Count]);
            _all = Task.WhenAll(sources.Select((_, n) => Task.Run(() => WorkAsync(n))));
        }

        public IReadOnlyList<DbDataSource> Sources { get; }

        /// <summary>Waits until so many more leases were granted.</summary>
        /// <param name="more">How many.</param>
        /// <param name="of">To which tasks; null for all.</param>
        public async Task UntilGrantsAsync(long more, int[]? of = null)
        {
            var before = Count();
            await TestServer.UntilAsync(() => Task.FromResult(Count() >= before + more || _all.IsCompleted), $"{more} more were granted");
            _ledger.Check();

            long Count() => (of ?? [.. Enumerable.Range(0, _grants.Length)]).Sum(n => Volatile.Read(ref _grants[n]));
        }

        public async Task EndAsync()
        {
            await _end.CancelAsync();
            await _all;
            _ledger.Check();
        }

        public async ValueTask DisposeAsync()
        {
            await _end.CancelAsync();
            await ((Task)_all).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (var source in Sources)
            {
                await source.DisposeAsync();
            }

            _end.Dispose();
        }

        private async Task WorkAsync(int n)
        {
            while (!_end.IsCancellationRequested)
            {
                try
                {
                    var key = Random.Shared.GetItems(Wanted, 1)[0];
                    await using var held = await Sources[n].TryAcquireLockAsync(key, TimeSpan.FromMilliseconds(200), null, _options);
                    if (held is not null)
                    {
                        var began = Stopwatch.GetTimestamp();
                        await Task.Yield();
                        var ended = Stopwatch.GetTimestamp();
                        if (held.IsHeld)
                        {
                            _ledger.Note(key, held.FencingToken!.Value, began, ended);
                        }

                        Interlocked.Increment(ref _grants[n]);
                    }
                }
                catch (Exception e) when (e is LockException or DbException)
                {
                    // The server that was asked is dead, or is no primary yet.
                    await Task.Delay(50).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }
            }
        }
    }
}
