using System.Diagnostics;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Leases over a failover: the primary is killed under load, and its synchronous standby is promoted.</summary>
public sealed class LeaseFailoverTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(4) };

    private LockKey Key { get; } = "failover:" + Guid.NewGuid();

    /// <summary>The servers answer commits before they are safe, unless a statement asks for more.</summary>
    [Fact]
    public async Task Two_never_have_one_and_who_renews_keeps_it()
    {
        string[] settings = ["synchronous_commit = off", "max_connections = 100"];
        var primary = await PostgreSqlServer.StartPrivateAsync(settings);
        await using var standby = await primary.StartStandbyAsync();
        var address = new NpgsqlConnectionStringBuilder(primary.ConnectionString) { HostRecheckSeconds = 1 };
        address.Host = $"{address.Host}:{address.Port},{standby.Host}:{standby.Port}";
        await using (var first = NpgsqlDataSource.Create(primary.ConnectionString))
        {
            await LeaseTable.Default.CreateAsync(first);
            await LeaseServers.AskAsync(first, "alter system set synchronous_standby_names = '*'");
            await LeaseServers.AskAsync(first, "select pg_reload_conf()");
            await TestServer.UntilAsync(
                async () => await LeaseServers.AskAsync(first, "select count(*) from pg_stat_replication where sync_state = 'sync'") is 1L, "the standby is synchronous");
        }

        LockKey[] keys = [.. Enumerable.Range(0, 3).Select(n => (LockKey)$"{Key}:{n}")];
        var ledger = new LeaseLedger(keys);
        var (grants, isOver, pause, lastGrant) = (0, false, TimeSpan.Zero, 0L);
        var lasting = Options with { Lease = TimeSpan.FromSeconds(8) };
        await using var own = new NpgsqlDataSourceBuilder(address.ConnectionString).BuildMultiHost().WithTargetSession(TargetSessionAttributes.Primary);
        var kept = await own.AcquireLockAsync(Key, null, null, lasting);
        var working = Task.WhenAll(Enumerable.Range(0, 4).Select(async number =>
        {
            await using var source = new NpgsqlDataSourceBuilder(address.ConnectionString).BuildMultiHost().WithTargetSession(TargetSessionAttributes.Primary);
            var random = new Random(number);
            while (!Volatile.Read(ref isOver))
            {
                try
                {
                    await using var held = await source.AcquireLockAsync(LockKey.All(random.GetItems(keys, random.Next(1, 3))), TimeSpan.FromSeconds(20), null, Options);
                    var began = Stopwatch.GetTimestamp();
                    await Task.Yield();
                    var ended = Stopwatch.GetTimestamp();
                    if (held.IsHeld)
                    {
                        ledger.Note(held.Key, held.FencingToken!.Value, began, ended);
                    }

                    Interlocked.Increment(ref grants);
                    lock (ledger)
                    {
                        var since = lastGrant == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(lastGrant);
                        (pause, lastGrant) = (since > pause ? since : pause, Stopwatch.GetTimestamp());
                    }
                }
                catch (LockException)
                {
                    // No server takes writes at this moment: the next round asks again.
                }
            }
        }));
        await UntilGrantsAsync(100);

        var crashed = Stopwatch.GetTimestamp();
        await primary.DisposeAsync();
        await using (var second = NpgsqlDataSource.Create(standby.ConnectionString))
        {
            Assert.Equal(true, await LeaseServers.AskAsync(second, "select pg_promote()"));
        }

        await UntilGrantsAsync(Volatile.Read(ref grants) + 100);
        Volatile.Write(ref isOver, true);
        await working;

        ledger.Check();

        // By now it was renewed on the other server, or it would have ended.
        await TestServer.UntilAsync(() => Task.FromResult(Stopwatch.GetElapsedTime(crashed) > lasting.Lease), "the lease would have ended");
        Assert.True(kept.IsHeld);
        Assert.False(kept.Lost.IsCancellationRequested);
        Assert.Null(await own.TryAcquireLockAsync(Key, default, null, lasting));
        Assert.True(await kept.ReleaseAsync());
        await using var next = await own.AcquireLockAsync(Key, TimeSpan.FromSeconds(20), null, Options);
        Assert.True(next.FencingToken > kept.FencingToken);
        TestContext.Current.TestOutputHelper?.WriteLine($"The longest pause between two grants was {pause.TotalSeconds:0.00} s.");

        Task UntilGrantsAsync(int count) => TestServer.UntilAsync(() => Task.FromResult(Volatile.Read(ref grants) >= count), $"there were {count} grants");
    }
}
