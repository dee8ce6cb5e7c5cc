using System.Data.Common;
using System.Diagnostics;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Keys with slots: any one of them is acquired, over leases, over the engines' own locks and in pools.</summary>
public sealed class SlotTests
{
    private const int Count = 3;

    private static readonly string[] Sessions = ["Npgsql", "AdoNet on PostgreSQL", "Odbc on PostgreSQL", "MySqlConnector", "MySql.Data", "Odbc on MariaDB"];

    private LockKey Key { get; } = "slots:" + Guid.NewGuid();

    /// <summary>Gets each way to a server with each way to hold a lock over it.</summary>
    public static TheoryData<string, string> All
    {
        get
        {
            var all = new TheoryData<string, string>();
            foreach (var way in Sessions)
            {
                all.Add(way, "session");
                all.Add(way, "lock");
            }

            foreach (var way in LeaseServers.All)
            {
                all.Add(way.Data, "lease");
                all.Add(way.Data, "lease lock");
            }

            all.Add("Npgsql", "pool");
            all.Add("MySqlConnector", "pool");
            return all;
        }
    }

    [Theory, MemberData(nameof(All))]
    public async Task So_many_hold_it_at_once_each_in_its_slot_and_the_next_gets_the_one_that_comes_free(string way, string kind)
    {
        await using var slots = await Holders.OpenAsync(way, kind);
        await using var others = await Holders.OpenAsync(way, kind);
        var key = LockKey.Slots(Key, Count);
        var held = new List<IHeldLock>();
        for (var n = 0; n < Count; n++)
        {
            held.Add((await (n % 2 == 0 ? slots : others).TryAsync(key, TimeSpan.Zero))!);
            Assert.Equal(key, held[n].Key);
        }

        Assert.Equal(Enumerable.Range(1, Count), held.Select(one => one.Slot!.Value).Order());
        Assert.Null(await slots.TryAsync(key, TimeSpan.Zero));
        Assert.Null(await others.TryAsync(key, TimeSpan.FromMilliseconds(30)));

        // Without slots it is another lock.
        await using (var plain = await others.TryAsync(Key, TimeSpan.Zero))
        {
            Assert.NotNull(plain);
            Assert.Null(plain.Slot);
        }

        foreach (var free in new[] { 2, 3, 1 })
        {
            var here = slots.TryAsync(key, Timeout.InfiniteTimeSpan);
            Assert.False(here.IsCompleted);
            var leaving = held.Single(one => one.Slot == free);
            held.Remove(leaving);
            Assert.True(await leaving.ReleaseAsync());
            held.Add((await here.WaitAsync(TimeSpan.FromSeconds(60)))!);
            Assert.Equal(free, held[^1].Slot);
            Assert.Null(await others.TryAsync(key, TimeSpan.Zero));
        }

        foreach (var one in held)
        {
            one.ThrowIfLost();
            Assert.True(await one.ReleaseAsync());
        }

        await using var last = await others.TryAsync(key, TimeSpan.Zero);
        Assert.NotNull(last);
    }

    /// <summary>Tasks of several processes' worth come and go. Some give up, some try once.</summary>
    [Theory, MemberData(nameof(All))]
    public async Task Never_more_than_so_many_are_inside_and_never_two_in_one_slot(string way, string kind)
    {
        var (key, inside, most, grants, rounds) = (LockKey.Slots(Key, Count), new int[Count + 1], 0, 0, 25);
        await Task.WhenAll(Enumerable.Range(0, 3).Select(async process =>
        {
            await using var slots = await Holders.OpenAsync(way, kind);
            await Task.WhenAll(Enumerable.Range(0, 3).Select(async task =>
            {
                await Task.Yield();
                var random = new Random((10 * process) + task);
                for (var round = 0; round < rounds; round++)
                {
                    using var cancel = random.Next(8) == 0 ? new CancellationTokenSource(random.Next(20)) : new CancellationTokenSource();
                    try
                    {
                        var timeout = random.Next(4) switch { 0 => TimeSpan.Zero, 1 => TimeSpan.FromMilliseconds(way == "Sqlite" ? 10_000 : random.Next(50)), _ => TimeSpan.FromMinutes(2) };
                        if (await slots.TryAsync(key, timeout, cancel.Token) is { } held)
                        {
                            var slot = held.Slot!.Value;
                            Assert.Equal(1, Interlocked.Increment(ref inside[slot]));
                            Assert.InRange(Interlocked.Increment(ref inside[0]), 1, Count);
                            InterlockedMax(ref most, inside[0]);
                            Interlocked.Increment(ref grants);

                            // Until two have been inside at once, each waits a moment for another.
                            var clock = Stopwatch.StartNew();
                            do
                            {
                                await Task.Yield();
                            }
                            while (Volatile.Read(ref most) < 2 && clock.ElapsedMilliseconds < 20);

                            Assert.True(held.IsHeld);
                            Interlocked.Decrement(ref inside[0]);
                            Interlocked.Decrement(ref inside[slot]);
                            Assert.True(await held.ReleaseAsync());
                        }
                    }
                    catch (OperationCanceledException) when (cancel.IsCancellationRequested)
                    {
                    }
                    catch (LockException e) when (e.IsLate())
                    {
                        // The machine is too busy for an answer within the timeout and a second. What was given all the same is let go, or ends.
                    }
                }
            }));
        }));
        Assert.True(most > 1 && grants > 9 * rounds / 4, $"{grants} grants, at most {most} at once");

        // Nothing is left.
        await using var after = await Holders.OpenAsync(way, kind);
        for (var n = 0; n < Count; n++)
        {
            Assert.NotNull(await after.TryAsync(key, TimeSpan.FromMinutes(1)));
        }

        static void InterlockedMax(ref int most, int value)
        {
            for (var seen = Volatile.Read(ref most); seen < value && Interlocked.CompareExchange(ref most, value, seen) != seen; seen = Volatile.Read(ref most))
            {
            }
        }
    }

    [Theory, InlineData("Npgsql", "session"), InlineData("Npgsql", "lease"), InlineData("Npgsql", "pool"), InlineData("MySqlConnector", "session"), InlineData("Sqlite", "lease")]
    public async Task Tasks_of_one_process_get_it_in_their_order(string way, string kind)
    {
        await using var slots = await Holders.OpenAsync(way, kind);
        var key = LockKey.Slots(Key, 2);
        var held = new Queue<IHeldLock>([(await slots.TryAsync(key, TimeSpan.Zero))!, (await slots.TryAsync(key, TimeSpan.Zero))!]);
        var order = new List<int>();
        var waits = Enumerable.Range(0, 20).Select(async number =>
        {
            var one = (await slots.TryAsync(key, TimeSpan.FromMinutes(1)))!;
            lock (order)
            {
                order.Add(number);
                held.Enqueue(one);
            }
        }).ToList();
        Assert.DoesNotContain(waits, wait => wait.IsCompleted);
        for (var number = 0; number < 20; number++)
        {
            IHeldLock first;
            lock (order)
            {
                first = held.Dequeue();
            }

            Assert.True(await first.ReleaseAsync());
            await waits[number].WaitAsync(TimeSpan.FromSeconds(60));
        }

        Assert.Equal(Enumerable.Range(0, 20), order);
    }

    /// <summary>A slot is a lock of its own by a name that other programs can make.</summary>
    [Theory, InlineData("Npgsql"), InlineData("MySqlConnector")]
    public async Task Another_program_takes_a_slot_by_its_name_and_who_gives_fewer_slots_has_the_first_ones(string way)
    {
        await using var slots = await Holders.OpenAsync(way, "session");
        await using (await slots.TryAsync($"{Key}#1", TimeSpan.Zero))
        {
            await using var second = await slots.TryAsync(LockKey.Slots(Key, 2), TimeSpan.Zero);
            Assert.Equal(2, second!.Slot);
            Assert.Null(await slots.TryAsync(LockKey.Slots(Key, 2), TimeSpan.Zero));
            Assert.Null(await slots.TryAsync(LockKey.Slots(Key, 1), TimeSpan.Zero));
            await using var third = await slots.TryAsync(LockKey.Slots(Key, 5), TimeSpan.Zero);
            Assert.Equal(3, third!.Slot);
        }

        await using var first = await slots.TryAsync(LockKey.Slots(Key, 1), TimeSpan.Zero);
        Assert.Equal(1, first!.Slot);
    }

    [Fact]
    public async Task The_slot_of_a_session_that_is_killed_is_free_and_the_holder_hears_of_it()
    {
        await using var slots = await Holders.OpenAsync("Npgsql", "session");
        var key = LockKey.Slots(Key, 2);
        await using var first = await slots.TryAsync(key, TimeSpan.Zero);
        var second = (await slots.TryAsync(key, TimeSpan.Zero))!;
        var waiting = slots.TryAsync(key, Timeout.InfiniteTimeSpan);
        Assert.False(waiting.IsCompleted);
        await using (var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false"))
        {
            var pg = key.Slot(2).ToPgLocks();
            await administrator.ExecuteAsync($"select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = {pg.ClassId} and objid = {pg.ObjId} and objsubid = {pg.ObjSubId}");
        }

        await using var next = await waiting.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(2, next!.Slot);
        await WaitForAsync(second.Lost);
        Assert.Throws<LockLostException>(second.ThrowIfLost);
        await second.DisposeAsync();
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task The_slot_of_a_lease_that_nobody_renews_is_free_when_its_time_is_over_and_holders_are_told(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        var (key, options) = (LockKey.Slots(Key, 2), new LockOptions { Scope = LockScope.Lease, Lease = LeaseLengths.Shortest });
        await using var connection = await source.OpenConnectionAsync();
        await using var dies = connection.CreateLock(key, null, options);
        Assert.True(await dies.AcquireAsync(block: false));
        await using var lives = await source.AcquireLockAsync(key, TimeSpan.Zero, null, options);
        Assert.Equal([1, 2], new[] { dies.Slot, lives.Slot }.Order());
        var told = await dies.GetHoldersAsync();
        Assert.Equal([1, 2], told.Select(holder => holder.Lease!.Slot).Order());
        await using var next = await source.AcquireLockAsync(key, TimeSpan.FromSeconds(60), null, options);
        Assert.Equal(dies.Slot, next.Slot);
        Assert.True(next.FencingToken > dies.FencingToken);
        Assert.False(dies.IsHeld);
        Assert.Throws<LockLostException>(dies.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(() => dies.RenewAsync().AsTask());
    }

    [Fact]
    public async Task In_a_transaction_a_slot_ends_with_it_and_one_connection_does_not_get_one_slot_twice()
    {
        var source = await LeaseServers.SourceAsync("Npgsql");
        await using var connection = await source.OpenConnectionAsync();
        var (key, options) = (LockKey.Slots(Key, 2), new LockOptions { Scope = LockScope.Transaction });
        var locks = Enumerable.Range(0, 3).Select(_ => connection.CreateLock(key, null, options)).ToList();
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            locks.ForEach(one => one.Transaction = transaction);
            Assert.True(await locks[0].AcquireAsync(block: false));
            Assert.True(locks[1].Acquire());
            Assert.False(await locks[2].AcquireAsync(block: false));
            Assert.Contains("all of its slots", (await Assert.ThrowsAsync<LockException>(() => locks[2].AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
            Assert.Equal([1, 2], [locks[0].Slot!.Value, locks[1].Slot!.Value]);
            Assert.Null(await source.TryAcquireLockAsync(key));
            await transaction.CommitAsync();
        }

        Assert.False(locks[0].IsHeld);
        await using var free = await source.TryAcquireLockAsync(key);
        Assert.Equal(1, free!.Slot);
    }

    [Theory, InlineData("Npgsql"), InlineData("MySqlConnector")]
    public async Task Who_holds_one_is_told_also_by_a_lock_that_has_let_go_of_its_own(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        await using var connection = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(LockKey.Slots(Key, 2));
        Assert.True(await mine.AcquireAsync(block: false));
        await using var other = await source.AcquireLockAsync(LockKey.Slots(Key, 2));
        Assert.Equal((1, 2), (mine.Slot, other.Slot));
        Assert.True(await mine.ReleaseAsync());
        Assert.Single(await mine.GetHoldersAsync());
        await other.ReleaseAsync();
        Assert.Empty(await mine.GetHoldersAsync());
    }

    [Fact]
    public async Task A_timeout_says_who_holds_a_slot()
    {
        await using var slots = await Holders.OpenAsync("Npgsql", "session");
        await using var held = await slots.TryAsync(LockKey.Slots(Key, 1), TimeSpan.Zero);
        var source = await LeaseServers.SourceAsync("Npgsql");
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => source.AcquireLockAsync(LockKey.Slots(Key, 1), TimeSpan.FromMilliseconds(20)).AsTask());
        Assert.Single(error.Holders!);
        Assert.Contains("(any of 1 slots)", error.Message, StringComparison.Ordinal);
    }

    private static async Task WaitForAsync(CancellationToken token)
    {
        var fired = new TaskCompletionSource();
        await using var registration = token.Register(fired.SetResult);
        await fired.Task.WaitAsync(TimeSpan.FromSeconds(60), CancellationToken.None);
    }

    /// <summary>One way to hold locks over one way to a server, as a process has it.</summary>
    private sealed class Holders(DbDataSource source, LockInterface? driver, string kind) : IAsyncDisposable
    {
        private readonly LockPool? _pool = kind == "pool" ? new LockPool(source, driver) : null;

        public static async Task<Holders> OpenAsync(string way, string kind)
        {
            await LeaseServers.SourceAsync(way);
            return new Holders(await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way), kind);
        }

        public async Task<IHeldLock?> TryAsync(LockKey key, TimeSpan timeout, CancellationToken cancellationToken = default)
        {
            var options = new LockOptions { Scope = kind.StartsWith("lease", StringComparison.Ordinal) ? LockScope.Lease : LockScope.Session };
            if (_pool is not null)
            {
                return await _pool.TryAcquireLockAsync(key, timeout, shared: false, cancellationToken);
            }

            if (!kind.EndsWith("lock", StringComparison.Ordinal))
            {
                return await source.TryAcquireLockAsync(key, timeout, driver, options, cancellationToken);
            }

            var connection = await source.OpenConnectionAsync(CancellationToken.None);
            var held = new LockOnConnection(connection, connection.CreateLock(key, driver, options));
            var isHeld = false;
            try
            {
                isHeld = await held.Lock.AcquireAsync(timeout, cancellationToken);
                return isHeld ? held : null;
            }
            finally
            {
                if (!isHeld)
                {
                    await held.DisposeAsync();
                }
            }
        }

        public async ValueTask DisposeAsync()
        {
            if (_pool is not null)
            {
                await _pool.DisposeAsync();
            }

            await source.DisposeAsync();
        }
    }

    private sealed class LockOnConnection(DbConnection connection, Lock @lock) : IHeldLock
    {
        public Lock Lock => @lock;

        public LockKey Key => @lock.Key;

        public bool IsHeld => @lock.IsHeld;

        public CancellationToken Lost => @lock.Lost;

        public long? FencingToken => @lock.FencingToken;

        public int? Slot => @lock.Slot;

        public void ThrowIfLost() => @lock.ThrowIfLost();

        public async ValueTask<bool> ReleaseAsync()
        {
            var isReleased = await @lock.ReleaseAsync();
            await DisposeAsync();
            return isReleased;
        }

        public async ValueTask DisposeAsync()
        {
            await @lock.DisposeAsync();
            await connection.DisposeAsync();
        }
    }
}
