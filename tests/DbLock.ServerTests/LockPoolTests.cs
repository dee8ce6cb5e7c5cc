using System.Collections.Concurrent;
using System.Data.Common;
using System.Data.Odbc;
using System.Diagnostics;
using DbLock.Drivers;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Many locks and waiters on a few connections, over the native driver.</summary>
public sealed class LockPoolTests() : PoolTurnSpecification(PostgreSqlTestServer.Instance, LockInterface.Npgsql)
{
    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    [Fact]
    public async Task Held_elsewhere_is_null_or_an_error_that_says_by_whom()
    {
        var pool = await PoolAsync();
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false;Application Name=the holder");
        using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync(block: false));
        Assert.Null(await pool.TryAcquireLockAsync(Key));
        Assert.Null(await pool.TryAcquireLockAsync(Key, TimeSpan.FromMilliseconds(30)));
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => pool.AcquireLockAsync(Key, TimeSpan.FromMilliseconds(30)).AsTask());
        Assert.Contains("the holder", error.Message, StringComparison.Ordinal);
        Assert.Equal(holder.ProcessID, Assert.Single(error.Holders!).Session!.Id);
        Assert.True(await held.ReleaseAsync());

        await using var here = await pool.AcquireLockAsync(Key);
        error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => pool.AcquireLockAsync(Key, TimeSpan.FromMilliseconds(30)).AsTask());
        Assert.Contains("another task of this pool", error.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<LockNotAcquiredException>(() => pool.AcquireLockAsync(Key, TimeSpan.Zero).AsTask());
    }

    [Fact]
    public async Task Tasks_of_a_process_queue_in_memory_first_come_first_served()
    {
        var pool = await PoolAsync();
        var order = new List<int>();
        var first = await pool.AcquireLockAsync(Key);
        var tasks = Enumerable.Range(0, 200).Select(async number =>
        {
            await using var held = await pool.AcquireLockAsync(Key);
            order.Add(number);
        }).ToList();
        Assert.Equal(1, await CountAsync("select count(*) from pg_locks where locktype = 'advisory' and granted and " + IsOfPools));
        Assert.Equal(0, await CountAsync("select count(*) from pg_locks where locktype = 'advisory' and not granted and " + IsOfPools));
        await first.DisposeAsync();
        await Task.WhenAll(tasks);
        Assert.Equal(Enumerable.Range(0, 200), order);
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Fact]
    public async Task Ten_thousand_locks_and_waiters_need_few_connections()
    {
        var (pool, other) = (await PoolAsync("Maximum Pool Size=2"), await PoolAsync("Maximum Pool Size=2"));
        const int Count = 3000;
        var held = await Task.WhenAll(Enumerable.Range(0, Count).Select(n => pool.AcquireLockAsync($"{Name}{n}").AsTask()));
        var waits = Enumerable.Range(0, Count).Select(n => other.AcquireLockAsync($"{Name}{n}").AsTask()).ToList();
        await UntilListeningAsync();
        Assert.Equal(3, await CountAsync($"select count(*) from pg_stat_activity where {IsOfPools}"));

        // Other locks are the sign that one listens, and claims of a turn where a race was lost.
        var numbers = string.Join(',', Enumerable.Range(0, Count).Select(n => LockKey.From($"{Name}{n}").Number));
        var keys = $"locktype = 'advisory' and granted and {IsOfPools} and objsubid = 1 and ((classid::bigint << 32) | objid::bigint)";
        Assert.Equal(Count, await CountAsync($"select count(*) from pg_locks where {keys} in ({numbers})"));
        Assert.InRange(await CountAsync($"select count(*) from pg_locks where {keys} not in ({numbers})"), 1, 10);
        Assert.Equal(0, await CountAsync($"select count(*) from pg_locks where locktype = 'advisory' and not granted and {IsOfPools}"));
        await Task.WhenAll(held.Select(one => one.DisposeAsync().AsTask()));
        foreach (var one in await Task.WhenAll(waits))
        {
            await one.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_release_by_another_pool_is_heard_and_one_by_anybody_is_found()
    {
        var (pool, other) = (await PoolAsync(), await PoolAsync());
        await using var deaf = new LockPool(Opened(await CreateSourceAsync()), LockInterface.AdoNet);
        List<double> heard = [], polled = [];
        for (var round = 0; round < 20; round++)
        {
            var held = await other.AcquireLockAsync(Key);
            var wait = (round % 2 == 0 ? pool : deaf).AcquireLockAsync(Key).AsTask();
            await (round % 2 == 0 ? UntilListeningAsync() : (await deaf.AcquireLockAsync(Name + "an answer after that")).DisposeAsync().AsTask());
            var released = Stopwatch.GetTimestamp();
            await held.DisposeAsync();
            await using var granted = await wait;
            (round % 2 == 0 ? heard : polled).Add(Stopwatch.GetElapsedTime(released).TotalMilliseconds);
        }

        // Who does not hear asks again after a tenth of a second at the earliest.
        Assert.True(3 * heard.Order().ElementAt(5) < polled.Order().ElementAt(5), $"medians {heard.Order().ElementAt(5)} and {polled.Order().ElementAt(5)} ms");

        using var plain = new Lock(await OpenAsync(), Key);
        Assert.True(await plain.AcquireAsync());
        var found = pool.AcquireLockAsync(Key).AsTask();
        await UntilListeningAsync();
        await plain.ReleaseAsync();
        await (await found.WaitAsync(TimeSpan.FromSeconds(30))).DisposeAsync();
    }

    [Fact]
    public async Task Nobody_is_told_of_a_release_when_nobody_listens()
    {
        // Pools of other tests listen, too: in another database they are not heard.
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var pool = await PoolAsync($"Database={database.Name};Pooling=false");
        var listener = await OpenAsync($"Database={database.Name};Pooling=false");
        var heard = 0;
        listener.Notification += (_, notification) => heard += notification.Payload.Contains(Key.Number.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal) ? 1 : 0;
        await listener.ExecuteAsync("listen dblock_pool");
        await (await pool.AcquireLockAsync(Key)).DisposeAsync();
        await listener.ExecuteAsync("select 1");
        await listener.ExecuteAsync("select pg_advisory_lock_shared(" + LockKey.From("DbLock.LockPool listens").Number + ")");
        await (await pool.AcquireLockAsync(Key)).DisposeAsync();
        await listener.ExecuteAsync("select 1");
        Assert.Equal(1, heard);
    }

    [Fact]
    public async Task What_is_told_is_the_same_whether_the_server_writes_it_or_the_client()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var pool = await PoolAsync($"Database={database.Name};Pooling=false");
        var listener = await OpenAsync($"Database={database.Name};Pooling=false");
        List<string> heard = [];
        listener.Notification += (_, notification) => heard.Add(notification.Payload);
        await listener.ExecuteAsync("listen dblock_pool; select pg_advisory_lock_shared(" + LockKey.From("DbLock.LockPool listens").Number + ")");
        List<string> expected = [];
        foreach (var key in new LockKey[] { 7, -7, (7, 1), (-7, -1), long.MinValue, LockKey.All(3, (2, 1)) })
        {
            foreach (var shared in new[] { false, true })
            {
                await (await pool.AcquireLockAsync(key, shared: shared)).DisposeAsync();
                await listener.ExecuteAsync("select 1");
                var released = key.Keys.Select(one => new CarriedLock(one.Number, one.IsPair, shared) { Key = one });
                expected.Add(LockCarrier.BellText(heard[^1].Split(' ')[0], [.. released]));
            }
        }

        Assert.Equal(expected, heard);
    }

    [Fact]
    public async Task Carriers_that_are_killed_again_and_again_never_let_two_in_whose_release_tells_no_loss()
    {
        const int Kills = 30;
        var pools = new[] { await PoolAsync(), await PoolAsync() };
        var (clock, lost, stop) = (0L, 0, false);
        var holds = new ConcurrentBag<(long From, long To)>();
        var tasks = Enumerable.Range(0, 20).Select(async task =>
        {
            while (!Volatile.Read(ref stop))
            {
                var held = await pools[task % 2].AcquireLockAsync(Key);
                var from = Interlocked.Increment(ref clock);
                await Task.Yield();
                var to = Interlocked.Increment(ref clock);
                try
                {
                    Assert.True(await held.ReleaseAsync());
                    holds.Add((from, to));
                }
                catch (LockLostException)
                {
                    Interlocked.Increment(ref lost);
                }
            }
        }).ToList();
        for (var kill = 0; kill < Kills; kill++)
        {
            var before = holds.Count;
            await TestServer.UntilAsync(() => Task.FromResult(holds.Count > before + 20 || tasks.Exists(task => task.IsFaulted)), "tasks go on");
            await KillHolderAsync(Key);
        }

        Volatile.Write(ref stop, true);
        await Task.WhenAll(tasks);
        Assert.True(lost > 0);
        var sorted = holds.OrderBy(hold => hold.From).ToList();
        Assert.All(sorted.Zip(sorted.Skip(1)), pair => Assert.True(pair.First.To < pair.Second.From, "two were inside at the same time, and neither was told"));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Fact]
    public async Task A_statement_that_fails_costs_no_lock()
    {
        var pool = await PoolAsync();
        var kept = await pool.AcquireLockAsync(Name + "kept");
        var pid = await PidAsync();
        var round = 0;
        var canceller = Task.Run(async () =>
        {
            for (int seen; (seen = Volatile.Read(ref round)) < 300;)
            {
                await Server.CancelAsync(pid);
                await TestServer.UntilAsync(() => Task.FromResult(Volatile.Read(ref round) > seen), "the pool goes on");
            }
        });
        for (; round < 300; Interlocked.Increment(ref round))
        {
            await using var held = await pool.AcquireLockAsync($"{Name}{round % 7}");
        }

        await canceller;
        Assert.Equal(pid, await PidAsync());
        Assert.False(kept.Lost.IsCancellationRequested);
        Assert.True(await kept.ReleaseAsync());
        Assert.Equal(0, await Server.CountLocksAsync(pid));
    }

    [Fact]
    public async Task A_disposed_pool_leaves_nothing_and_says_so_to_who_waits()
    {
        var source = Opened(await CreateSourceAsync("Maximum Pool Size=2"));
        var pool = new LockPool(source);
        var plain = new Lock(await OpenAsync(), Key);
        Assert.True(await plain.AcquireAsync());
        var held = await pool.AcquireLockAsync(Name + "held");
        var waits = pool.AcquireLockAsync(Key).AsTask();
        await UntilListeningAsync();
        await Task.WhenAll(pool.DisposeAsync().AsTask(), pool.DisposeAsync().AsTask());
        await Assert.ThrowsAsync<ObjectDisposedException>(() => waits);
        Assert.True(held.Lost.IsCancellationRequested);
        await held.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await pool.AcquireLockAsync(Key));
        Assert.False(await Server.IsHeldAsync(Name + "held"));

        // Both connections are back, and have nothing of it.
        await using var one = await source.OpenConnectionAsync();
        await using var two = await source.OpenConnectionAsync();
        Assert.Equal(0, await CountAsync($"select count(*) from pg_locks where locktype = 'advisory' and {IsOfPools}"));
        await new LockPool(source).DisposeAsync();
    }

    [Fact]
    public async Task An_idle_pool_gives_its_connections_back()
    {
        var source = Opened(await CreateSourceAsync());
        await using var pool = new LockPool(source);
        await (await pool.AcquireLockAsync(Key)).DisposeAsync();
        await TestServer.UntilAsync(async () => await CountAsync($"select count(*) from pg_stat_activity where {IsOfPools} and query like '%string_to_array%'") == 1, "the carrier has gone back");
        await using var again = await pool.AcquireLockAsync(Key);
    }

    [Fact]
    public async Task What_is_asked_for_at_the_same_time_travels_together()
    {
        var builder = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var proxy = new PostgreSqlProxy(builder.Host!, builder.Port);
        (builder.Host, builder.Port, builder.SslMode) = ("127.0.0.1", proxy.Port, SslMode.Disable);
        await using var source = NpgsqlDataSource.Create(builder.ConnectionString);
        await using var pool = new LockPool(source);
        await (await pool.AcquireLockAsync(Key)).DisposeAsync();
        var before = proxy.RoundTrips;
        var held = await Task.WhenAll(Enumerable.Range(0, 2000).Select(n => pool.AcquireLockAsync($"{Name}{n}").AsTask()));
        await Task.WhenAll(held.Select(one => one.ReleaseAsync().AsTask()));
        Assert.InRange(proxy.RoundTrips - before, 2, 200);

        // One task after another in memory needs none.
        before = proxy.RoundTrips;
        await Task.WhenAll(Enumerable.Range(0, 500).Select(async _ =>
        {
            await using var one = await pool.AcquireLockAsync(Key);
        }));
        Assert.InRange(proxy.RoundTrips - before, 2, 100);
    }

    [Fact]
    public async Task A_full_lock_table_is_said_before_it_hurts_others()
    {
        // Its table has 10 x (20 + 20) places, of which a pool uses three quarters.
        await using var server = await PostgreSqlServer.StartPrivateAsync(["max_connections = 20", "max_locks_per_transaction = 10", "max_prepared_transactions = 20"]);
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await using var pool = new LockPool(source);
        await using var second = new LockPool(source);
        var held = new List<PooledLock> { await pool.AcquireLockAsync(0) };
        var wait = second.AcquireLockAsync(0).AsTask();
        var error = await Assert.ThrowsAsync<LockException>(async () =>
        {
            while (held.Count < 1000)
            {
                held.AddRange(await Task.WhenAll(Enumerable.Range(held.Count, 10).Select(n => pool.AcquireLockAsync(n).AsTask())));
            }
        });
        Assert.InRange(held.Count, 250, 299);
        Assert.Contains("max_locks_per_transaction", error.Message, StringComparison.Ordinal);
        await using (var other = await source.OpenConnectionAsync())
        {
            Assert.Equal(0L, await other.ExecuteAsync("select count(*) from pg_locks where not granted"));
        }

        // Who waits for what another pool holds needs no room, and goes on waiting.
        Assert.False(wait.IsCompleted);
        await held[0].DisposeAsync();
        await (await wait).DisposeAsync();
        await Task.WhenAll(held.Select(one => one.DisposeAsync().AsTask()));
        await using var again = await pool.AcquireLockAsync(LockKey.All(Enumerable.Range(0, 200).Select(n => (LockKey)n)));
    }

    [Fact]
    public async Task Behind_a_pooler_it_is_refused_unless_that_is_trusted()
    {
        await using var transactions = await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "transaction");
        await using var sessions = await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "session");
        foreach (var pooler in new[] { transactions, sessions })
        {
            await using var source = NpgsqlDataSource.Create(pooler.ConnectionString);
            await using var pool = new LockPool(source);
            var error = await Assert.ThrowsAsync<LockException>(() => pool.AcquireLockAsync(Key).AsTask());
            Assert.Contains("TrustPooler", error.Message, StringComparison.Ordinal);
        }

        await using var trusted = NpgsqlDataSource.Create(sessions.ConnectionString);
        await using var one = new LockPool(trusted, options: new LockPoolOptions { TrustPooler = true });
        await using var other = await PoolAsync();
        for (var round = 0; round < 5; round++)
        {
            var held = await one.AcquireLockAsync(Key);
            var wait = other.AcquireLockAsync(Key).AsTask();
            Assert.False(wait.IsCompleted);
            Assert.True(await held.ReleaseAsync());
            await (await wait).DisposeAsync();
        }
    }

    [Fact]
    public async Task A_server_that_cannot_carry_locks_is_refused()
    {
        await using var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var pool = new LockPool(source, options: new LockPoolOptions { Dialect = new ThirdParty.HashTextDialect() });
        Assert.Contains("AcquireLock", (await Assert.ThrowsAsync<NotSupportedException>(() => pool.AcquireLockAsync(Key).AsTask())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_that_cannot_be_reached_is_told_to_all()
    {
        await using var source = NpgsqlDataSource.Create("Host=127.0.0.1;Port=1;Username=nobody");
        await using var pool = new LockPool(source);
        var waits = Enumerable.Range(0, 50).Select(n => pool.AcquireLockAsync($"{Name}{n % 10}").AsTask()).ToList();
        foreach (var wait in waits)
        {
            await Assert.ThrowsAsync<NpgsqlException>(() => wait);
        }
    }

    private string IsOfPools => $"pid in (select pid from pg_stat_activity where application_name like '{Name}%')";

    protected override async Task<DbDataSource> CreateSourceAsync() => await CreateSourceAsync("");

    private async Task<NpgsqlDataSource> CreateSourceAsync(string more) =>
        NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Application Name={Name};{more}");

    // What was said last, about a second ago at most, is what is asked for and how many are held, and not which.
    protected override async Task BelievesAsync()
    {
        Assert.Equal(0, await CountAsync($"select count(*) from pg_stat_activity where application_name like '{Name}%' and query like '%left join%'"));
        Assert.Equal(2, await CountAsync($"select count(*) from pg_stat_activity where application_name like '{Name}%' and query like '%pg_try_advisory_lock%'"));
    }

    protected override Task KillHolderAsync(LockKey key) => Server.KillHolderAsync(key);

    private async Task<LockPool> PoolAsync(string more) => Opened(new LockPool(Opened(await CreateSourceAsync(more)), LockInterface.Npgsql));

    private async Task<NpgsqlConnection> OpenAsync(string more = "Pooling=false;Application Name=other") =>
        Opened(await Opened(await CreateSourceAsync(more)).OpenConnectionAsync());

    private static async Task<long> CountAsync(string sql)
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync();
        return (long)(await connection.ExecuteAsync(sql))!;
    }

    private async Task<int> PidAsync() => (int)await CountAsync($"select pid::bigint from pg_locks where locktype = 'advisory' and granted and {IsOfPools} limit 1");

    // The second connection waits for notifications, and the carrier says so by a lock.
    private Task UntilListeningAsync() => TestServer.UntilAsync(
        async () => await CountAsync($"select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock' and granted and {IsOfPools}") > 0, "a pool listens");
}
