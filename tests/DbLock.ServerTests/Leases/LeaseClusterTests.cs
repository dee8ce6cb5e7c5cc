using System.Collections.Concurrent;
using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using DbLock.LocalServers;
using MySqlConnector;
using Npgsql;
using Xunit.Sdk;

namespace DbLock.ServerTests;

/// <summary>Leases while servers die, on clusters of real ones: a primary with a synchronous standby, and three Galera nodes.</summary>
public sealed class LeaseClusterTests
{
    [Fact]
    public async Task A_failover_to_a_synchronous_standby_gives_no_lease_to_two_and_takes_none_away()
    {
        await using var primary = await PostgreSqlServer.StartPrivateAsync();
        await using var standby = await primary.StartStandbyAsync();
        await ExecuteAsync(primary, "alter system set synchronous_standby_names = '*'");
        await ExecuteAsync(primary, "select pg_reload_conf()");
        await TestServer.UntilAsync(
            async () => await ExecuteAsync(primary, "select count(*) from pg_stat_replication where sync_state = 'sync'") is 1L, "the standby is synchronous");
        await using (var source = Source())
        {
            await LeaseTable.Default.CreateAsync(source);
        }

        var options = new LockOptions { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(8) };
        await using var run = new Run(options, [.. Enumerable.Range(0, 6).Select(_ => Source())]);
        await using var holding = Source();
        var held = await holding.AcquireLockAsync("lease: outlives the failover", null, null, options);
        await run.UntilGrantsAsync(300);

        var start = Stopwatch.GetTimestamp();
        await primary.CrashAsync();
        await ExecuteAsync(standby, "select pg_promote()");
        await run.UntilGrantsAsync(1);
        Tell($"after the crash of the primary, a lease was granted again within {Stopwatch.GetElapsedTime(start).TotalMilliseconds:0} ms");
        await run.UntilGrantsAsync(300);

        // By now it was renewed on the other server, or it would have ended.
        await TestServer.UntilAsync(() => Task.FromResult(Stopwatch.GetElapsedTime(start) > options.Lease), "the lease would have ended");
        Assert.True(held.IsHeld);
        Assert.False(held.Lost.IsCancellationRequested);
        Assert.Null(await run.Sources[0].TryAcquireLockAsync(held.Key, default, null, options));
        Assert.True(await held.ReleaseAsync());
        await run.EndAsync();

        NpgsqlDataSource Source() => new NpgsqlDataSourceBuilder(
            $"Host=127.0.0.1:{primary.Port},127.0.0.1:{standby.Port};Host Recheck Seconds=1;Timeout=3;{Rest(primary.ConnectionString)}")
            .BuildMultiHost().WithTargetSession(TargetSessionAttributes.ReadWrite);

        static string Rest(string connectionString)
        {
            var one = new NpgsqlConnectionStringBuilder(connectionString);
            return $"Username={one.Username};Password={one.Password};Database={one.Database}";
        }

        static async Task<object?> ExecuteAsync(PostgreSqlServer server, string sql)
        {
            await using var connection = new NpgsqlConnection(server.ConnectionString + ";Pooling=false");
            await connection.OpenAsync();
            await using var command = new NpgsqlCommand(sql, connection);
            return await command.ExecuteScalarAsync();
        }
    }

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

        private readonly CancellationTokenSource _end = new();
        private readonly ConcurrentQueue<string> _violations = new();
        private readonly (HeldLock? Held, long Token)[] _holders = new (HeldLock?, long)[Keys];
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
            await TestServer.UntilAsync(() => Task.FromResult(Count() >= before + more || _all.IsCompleted || !_violations.IsEmpty), $"{more} more were granted");
            Assert.Empty(_violations);

            long Count() => (of ?? [.. Enumerable.Range(0, _grants.Length)]).Sum(n => Volatile.Read(ref _grants[n]));
        }

        public async Task EndAsync()
        {
            await _end.CancelAsync();
            await _all;
            Assert.Empty(_violations);
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
                    var key = Random.Shared.Next(Keys);
                    var name = string.Create(CultureInfo.InvariantCulture, $"lease: cluster {key}");
                    var held = await Sources[n].TryAcquireLockAsync(name, TimeSpan.FromMilliseconds(200), null, _options);
                    if (held is not null)
                    {
                        Enter(key, held);
                        Interlocked.Increment(ref _grants[n]);
                        await Task.Yield();
                        Leave(key, held);
                        await held.DisposeAsync();
                    }
                }
                catch (Exception e) when (e is LockException or DbException)
                {
                    // The server that was asked is dead, or is no primary yet.
                    await Task.Delay(50).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }
                catch (Exception e) when (e is not XunitException)
                {
                    _violations.Enqueue(e.ToString());
                    return;
                }
            }
        }

        private void Enter(int key, HeldLock held)
        {
            lock (_holders)
            {
                var (other, token) = _holders[key];
                if (other is { IsHeld: true } && held.IsHeld)
                {
                    _violations.Enqueue($"{held.Key} has two holders, with {other.FencingToken} and {held.FencingToken}");
                }

                if (held.FencingToken <= token)
                {
                    _violations.Enqueue($"{held.Key} has the token {held.FencingToken} after {token}");
                }

                _holders[key] = (held, held.FencingToken!.Value);
            }
        }

        private void Leave(int key, HeldLock held)
        {
            lock (_holders)
            {
                if (_holders[key].Held != held && held.IsHeld)
                {
                    _violations.Enqueue($"Another has {held.Key}, while it is held with {held.FencingToken}");
                }

                _holders[key] = _holders[key].Held == held ? (null, held.FencingToken!.Value) : _holders[key];
            }
        }
    }
}
