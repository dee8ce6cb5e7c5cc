using System.Data.Common;
using System.Diagnostics;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>What is a pool's own when its locks are leases.</summary>
public sealed class LeasePoolTests
{
    private const int Many = 1000;

    private static readonly LockPoolOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(9) };

    private LockKey Key { get; } = "lease pool:" + Guid.NewGuid();

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task All_tasks_are_asked_for_renewed_and_let_go_of_together(string way)
    {
        await LeaseServers.SourceAsync(way);
        await using var source = await LeaseServers.NewSourceAsync(way);
        await using var connection = await source.OpenConnectionAsync();
        var plain = LockInterface.For(connection);
        var counting = new CountingDriver(plain.Driver);
        await using var pool = new LockPool(source, new LockInterface("Counting", counting, [.. plain.Dialects]), Options);
        var all = await Task.WhenAll(Enumerable.Range(0, Many).Select(n => pool.AcquireLockAsync($"{Key}:{n}").AsTask()));
        Assert.InRange(counting.Count, 1, 20);
        var (ends, before) = (await EndsAsync(), counting.Count);
        await TestServer.UntilAsync(async () => (await EndsAsync()).Zip(ends).All(pair => pair.First > pair.Second), "all were renewed");
        Assert.InRange(counting.Count - before, 1, 10);
        Assert.All(all, held => Assert.True(held.IsHeld));
        before = counting.Count;
        await Task.WhenAll(all.Select(held => held.ReleaseAsync().AsTask()));
        Assert.InRange(counting.Count - before, 1, 20);
        Assert.Empty(await LeaseTable.Default.GetLeasesAsync(source, all.Select(held => held.Key)));

        async Task<IEnumerable<DateTimeOffset>> EndsAsync() =>
            (await LeaseTable.Default.GetLeasesAsync(source, all.Select(held => held.Key))).Select(lease => lease.Until);
    }

    [Fact]
    public async Task No_connection_is_kept_while_locks_are_held_and_waited_for()
    {
        await LeaseServers.SourceAsync("Npgsql");
        await using var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString + ";Maximum Pool Size=1");
        await using var pool = new LockPool(source, options: Options);
        await using var other = new LockPool(await LeaseServers.SourceAsync("Npgsql"), options: Options);
        await using var held = await pool.AcquireLockAsync(Key);
        var elsewhere = await other.AcquireLockAsync(Key + "elsewhere");
        var wait = pool.AcquireLockAsync(Key + "elsewhere").AsTask();
        for (var use = 0; use < 100; use++)
        {
            await using var connection = await source.OpenConnectionAsync();
            Assert.Equal(use, await new NpgsqlCommand($"select {use}", connection).ExecuteScalarAsync());
        }

        Assert.False(wait.IsCompleted);
        await elsewhere.DisposeAsync();
        await (await wait).DisposeAsync();
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task Its_tokens_grow_also_those_of_sets_and_its_least_time_is_kept_among_its_own_tasks(string way)
    {
        var least = TimeSpan.FromSeconds(1);
        var source = await LeaseServers.SourceAsync(way);
        await using var pool = new LockPool(source, options: Options with { AtLeast = least, Note = "of a pool" });
        var grants = new List<long>();
        await Task.WhenAll(Enumerable.Range(0, 3).Select(async task =>
        {
            await using var held = await pool.AcquireLockAsync(task == 1 ? LockKey.All(Key, Key + "set") : Key);
            lock (grants)
            {
                grants.Add(held.FencingToken!.Value);
            }
        }));
        Assert.All(grants.Zip(grants.Skip(1)), pair => Assert.True(pair.Second - pair.First >= least.TotalMicroseconds));
        var lease = Assert.Single(await LeaseTable.Default.GetLeasesAsync(source, [Key]));
        Assert.Equal((true, "of a pool", grants[^1]), (lease.IsReleased, lease.Note, lease.Token));

        // A set's token is larger than that of each of its keys, though one of them is ahead of the clock.
        var ahead = grants[^1] + (long)TimeSpan.FromDays(1).TotalMicroseconds;
        var key = way == "MySqlConnector" ? "`key`" : "key";
        await LeaseServers.AskAsync(source, $"update dblock_leases set token = {ahead} where {key} = '{Key}'");
        await using var set = await pool.AcquireLockAsync(LockKey.All(Key, Key + "set"));
        Assert.True(set.FencingToken > ahead);
        Assert.All(await LeaseTable.Default.GetLeasesAsync(source, set.Key.Keys), one => Assert.Equal(set.FencingToken, one.Token));
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task Who_holds_it_is_told_to_all_who_wait_in_vain(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        await using var pool = new LockPool(source, options: Options);
        await using var other = new LockPool(await LeaseServers.NewSourceAsync(way), options: Options);
        await using var held = await other.AcquireLockAsync(Key);
        LockKey[] keys = [Key, LockKey.All(Key + "free", Key)];
        foreach (var wait in keys.Select(key => pool.AcquireLockAsync(key, TimeSpan.FromMilliseconds(200)).AsTask()).ToList())
        {
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => wait);
            Assert.Contains($"is held by process {Environment.ProcessId} of '", error.Message, StringComparison.Ordinal);
            Assert.Equal(held.FencingToken, Assert.Single(error.Holders!).Lease!.Token);
        }

        var here = await Assert.ThrowsAsync<LockNotAcquiredException>(() => other.AcquireLockAsync(Key, TimeSpan.Zero).AsTask());
        Assert.Contains("it is held by another task of this pool", here.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_is_refused_in_one_sentence()
    {
        var source = await LeaseServers.SourceAsync("Npgsql");
        Assert.Throws<ArgumentException>(() => new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Transaction }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new LockPool(source, options: Options with { Lease = TimeSpan.FromSeconds(1) }));
        await using var missing = new LockPool(source, options: Options with { LeaseTable = new LeaseTable("there_is_none") });
        var waits = Enumerable.Range(0, 3).Select(n => missing.AcquireLockAsync(n % 2 == 0 ? Key : LockKey.All(Key, $"{Key}{n}")).AsTask());
        foreach (var wait in waits.ToList())
        {
            Assert.Contains("LeaseTable.CreateAsync", (await Assert.ThrowsAsync<LockException>(() => wait)).Message, StringComparison.Ordinal);
        }
    }

    /// <summary>Two keys that are one name in the table are one lease, also in one round.</summary>
    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task A_number_and_its_digits_are_one_lease(string way)
    {
        await using var pool = new LockPool(await LeaseServers.SourceAsync(way), options: Options);
        var number = Random.Shared.NextInt64();
        LockKey[] keys = [number, $"{number}", LockKey.All(number, Key)];
        for (var round = 0; round < 20; round++)
        {
            var tries = await Task.WhenAll(keys.Select(key => pool.TryAcquireLockAsync(key).AsTask()));
            await Assert.Single(tries, held => held is not null)!.DisposeAsync();
        }
    }

    [Fact]
    public async Task Over_a_restart_locks_are_kept_who_waits_goes_on_and_who_asks_meanwhile_is_told()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await LeaseTable.Default.CreateAsync(source);
        await using var pool = new LockPool(source, options: Options with { Lease = TimeSpan.FromMinutes(1) });
        await using var other = new LockPool(source, options: Options with { Lease = TimeSpan.FromMinutes(1) });
        await using var kept = await pool.AcquireLockAsync(Key + "kept");
        var elsewhere = await other.AcquireLockAsync(Key);
        var wait = pool.AcquireLockAsync(Key).AsTask();
        await Assert.ThrowsAsync<LockNotAcquiredException>(() => pool.AcquireLockAsync(Key, TimeSpan.FromMilliseconds(50)).AsTask());
        var restart = server.RestartAsync(immediate: true);
        while (!restart.IsCompleted)
        {
            try
            {
                // Null is true, too: the restart has swallowed the release before, which is told later.
                await using var free = await pool.TryAcquireLockAsync(Key + "free");
            }
            catch (LockException e) when (e is not LockLostException)
            {
                Assert.Matches("nobody knows who holds it|no connection to the server could be opened", e.Message);
            }
        }

        await restart;
        Assert.False(wait.IsCompleted);
        Assert.True(await elsewhere.ReleaseAsync());
        await using var next = await wait.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.True(next.FencingToken > elsewhere.FencingToken);
        Assert.True(await kept.ReleaseAsync());
        await using var last = await pool.AcquireLockAsync(Key + "free", TimeSpan.FromSeconds(30));
        Assert.True(last.IsHeld);
    }

    /// <summary>What is let go of while the server cannot be reached is let go of later, and not before its least time.</summary>
    [Fact]
    public async Task A_release_that_cannot_be_told_keeps_the_least_time()
    {
        await using var source = new FailingSource(await LeaseServers.SourceAsync("Npgsql"));
        var options = Options with { AtLeast = TimeSpan.FromHours(1) };
        await using var pool = new LockPool(source, options: options);
        var held = await pool.AcquireLockAsync(Key);
        source.Fails = true;
        Assert.True(await held.ReleaseAsync());
        source.Fails = false;
        var lease = default(LockLease);
        await TestServer.UntilAsync(
            async () => (lease = Assert.Single(await LeaseTable.Default.GetLeasesAsync(source, [Key]))).IsReleased, "it is let go of");
        Assert.Equal(options.AtLeast, lease!.Until - lease.Since);
    }

    private sealed class FailingSource(DbDataSource inner) : DbDataSource
    {
        public bool Fails { get; set; }

        public override string ConnectionString => inner.ConnectionString;

        protected override DbConnection CreateDbConnection() => inner.CreateConnection();

        protected override DbConnection OpenDbConnection() => Fails ? throw new TimeoutException() : inner.OpenConnection();

        protected override async ValueTask<DbConnection> OpenDbConnectionAsync(CancellationToken cancellationToken = default) =>
            Fails ? throw new TimeoutException() : await inner.OpenConnectionAsync(cancellationToken);
    }
}
