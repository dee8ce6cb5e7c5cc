using System.Collections.Concurrent;
using System.Data.Common;
using System.Diagnostics;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Many leases of one process.</summary>
public sealed class LeaseCrowdTests
{
    private const int Many = 2000;

    private LockKey Key { get; } = "lease crowd:" + Guid.NewGuid();

    /// <summary>They are asked for together and renewed together, over a few connections.</summary>
    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task Thousands_are_acquired_renewed_and_kept(string way)
    {
        await LeaseServers.SourceAsync(way);
        await using var source = await LeaseServers.NewSourceAsync(way);
        await using var other = await LeaseServers.NewSourceAsync(way);
        var log = new RecordingLogger();
        var options = new LockOptions { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(24), Logger = log };
        var clock = Stopwatch.StartNew();
        var all = await Task.WhenAll(Enumerable.Range(0, Many).Select(n => source.AcquireLockAsync($"{Key}:{n}", null, null, options).AsTask()));
        TestContext.Current.TestOutputHelper?.WriteLine($"{Many} were acquired in {clock.Elapsed.TotalSeconds:0.00} s.");
        var ends = DateTimeOffset.MaxValue;
        await TestServer.UntilAsync(async () => (ends = await EndAsync(0) ?? ends) < DateTimeOffset.MaxValue, "the server tells the end");
        await TestServer.UntilAsync(async () => await EndAsync(0) > ends && await EndAsync(Many - 1) > ends, "the leases were renewed");
        Assert.True(
            Array.TrueForAll(all, held => held.IsHeld),
            $"{all.Count(held => !held.IsHeld)} were lost after {clock.Elapsed.TotalSeconds:0.00} s. {string.Join(Environment.NewLine, log.Warnings.Take(10))}");
        Assert.Null(await other.TryAcquireLockAsync($"{Key}:{Many / 2}", default, null, options));
        clock.Restart();
        await Task.WhenAll(all.Select(held => held.ReleaseAsync().AsTask()));
        TestContext.Current.TestOutputHelper?.WriteLine($"They were released in {clock.Elapsed.TotalSeconds:0.00} s.");

        // Who holds it is told within a second or not at all.
        async Task<DateTimeOffset?> EndAsync(int number)
        {
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => other.AcquireLockAsync($"{Key}:{number}", TimeSpan.Zero, null, options).AsTask());
            return error.Holders?.Single().Lease!.Until;
        }
    }

    /// <summary>Who lets go of a lease while others do so does not send a statement of his own, and waits for no connection of his own.</summary>
    [Fact]
    public async Task Thousands_are_acquired_and_let_go_of_in_few_statements()
    {
        await LeaseServers.SourceAsync("Npgsql");
        var counter = new RoundTrips();
        await using var counted = new NpgsqlDataSourceBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString).UseLoggerFactory(counter).Build();
        await using var source = new GatedSource(counted);
        var options = new LockOptions { Scope = LockScope.Lease };
        var all = await TogetherAsync(n => source.AcquireLockAsync($"{Key}:{n}", null, null, options).AsTask());
        Assert.All(await TogetherAsync(n => all[n].ReleaseAsync().AsTask()), Assert.True);
        Assert.Equal(0L, await LeaseServers.AskAsync(source, $"select count(*) from dblock_leases where key like '{Key.Name}%' and expires > now()"));

        // All ask before the first is given a connection: eight go alone, and the others together, 500 in a statement.
        async Task<T[]> TogetherAsync<T>(Func<int, Task<T>> call)
        {
            counter.Count = 0;
            source.Gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
            var calls = Enumerable.Range(0, Many).Select(call).ToList();
            source.Gate.SetResult();
            var answers = await Task.WhenAll(calls);
            Assert.InRange(counter.Count, 2, 20);
            return answers;
        }
    }

    /// <summary>A provider that blocks its caller blocks him for his own statement, and not for those of others, who asked meanwhile.</summary>
    [Fact]
    public async Task Nobody_serves_the_others()
    {
        const int UnderWay = 8;
        using var gate = new SemaphoreSlim(0);
        var threads = new ConcurrentQueue<int>();
        await using var odbc = new OdbcDataSource(await LeaseServers.NewSourceAsync("Odbc on PostgreSQL"), () =>
        {
            threads.Enqueue(Environment.CurrentManagedThreadId);
            gate.Wait();
        });
        await LeaseServers.SourceAsync("Odbc on PostgreSQL");
        var options = new LockOptions { Scope = LockScope.Lease };
        var first = Enumerable.Range(0, UnderWay).Select(n => Task.Factory.StartNew(
            () => odbc.AcquireLockAsync($"{Key}:{n}", null, null, options).AsTask(), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        await TestServer.UntilAsync(() => Task.FromResult(threads.Count == UnderWay), "all that may be are under way");
        var last = odbc.AcquireLockAsync($"{Key}:last", null, null, options).AsTask();
        gate.Release();
        await TestServer.UntilAsync(() => Task.FromResult(threads.Count == UnderWay + 1), "the last is under way");
        var all = threads.ToArray();
        gate.Release(100);
        Assert.DoesNotContain(all[^1], all[..^1]);
        foreach (var call in first)
        {
            await (await await call).DisposeAsync();
        }

        await (await last).DisposeAsync();
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task A_hundred_tasks_take_turns_at_one(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        var options = new LockOptions { Scope = LockScope.Lease };
        var (inside, turns) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, 100).Select(async _ =>
        {
            await using var held = await source.AcquireLockAsync(Key, null, null, options);
            Assert.Equal(1, Interlocked.Increment(ref inside));
            turns++;
            await Task.Yield();
            Interlocked.Decrement(ref inside);
        }));
        Assert.Equal(100, turns);
    }

    /// <summary>Who is cancelled has asked already, and the next one asks for the same key beside it, while others ask for theirs.</summary>
    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task Waits_that_are_cancelled_cost_nobody_else_a_lease(string way)
    {
        await LeaseServers.SourceAsync(way);
        await using var source = await LeaseServers.NewSourceAsync(way);
        var options = new LockOptions { Scope = LockScope.Lease, Lease = TimeSpan.FromMinutes(1) };
        await Task.WhenAll(Enumerable.Range(0, 40).Select(async task =>
        {
            var key = task < 20 ? Key : (LockKey)$"{Key}:{task}";
            for (var round = 0; round < 20; round++)
            {
                using var cancel = new CancellationTokenSource();
                var wait = source.AcquireLockAsync(key, null, null, options, cancel.Token).AsTask();
                await Task.Yield();
                if (task < 20)
                {
                    await cancel.CancelAsync();
                }

                try
                {
                    await (await wait).DisposeAsync();
                }
                catch (OperationCanceledException) when (cancel.IsCancellationRequested)
                {
                }
            }
        }));
        await using var last = await source.AcquireLockAsync(Key, TimeSpan.FromMinutes(1), null, options);
        Assert.True(last.IsHeld);
    }

    /// <summary>A data source that does something on the caller's thread before it opens a connection, as ODBC opens it.</summary>
    private sealed class OdbcDataSource(DbDataSource source, Action opening) : DbDataSource
    {
        public override string ConnectionString => source.ConnectionString;

        protected override DbConnection CreateDbConnection() => source.CreateConnection();

        protected override ValueTask<DbConnection> OpenDbConnectionAsync(CancellationToken cancellationToken = default)
        {
            opening();
            return new(source.OpenConnection());
        }

        protected override void Dispose(bool disposing)
        {
            source.Dispose();
            base.Dispose(disposing);
        }
    }

    /// <summary>Gives connections when its gate is open.</summary>
    private sealed class GatedSource(NpgsqlDataSource inner) : DbDataSource
    {
        public TaskCompletionSource Gate { get; set; } = new();

        public override string ConnectionString => inner.ConnectionString;

        protected override DbConnection CreateDbConnection() => inner.CreateConnection();

        protected override async ValueTask<DbConnection> OpenDbConnectionAsync(CancellationToken cancellationToken = default)
        {
            await Gate.Task;
            return await inner.OpenConnectionAsync(cancellationToken);
        }
    }
}
