using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock.Specification;

/// <summary>
/// What a lease from a data source promises over every driver, on every engine whose dialect has leases. A data source stands for a process:
/// two know nothing of each other but what the server tells.
/// </summary>
/// <param name="server">The table of leases, as an observer sees it.</param>
/// <param name="lockInterface">The driver; null finds it from the connection.</param>
public abstract class LeaseSpecification(TestServer server, LockInterface? lockInterface) : IAsyncDisposable
{
    private readonly List<DbDataSource> _opened = [];

    protected string Name { get; } = "lease specification:" + Guid.NewGuid();

    protected LockKey Key => Name;

    protected LockOptions Options { get; } = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(10) };

    public async ValueTask DisposeAsync()
    {
        foreach (var opened in _opened)
        {
            await opened.DisposeAsync();
        }
    }

    /// <summary>Makes a data source of its own.</summary>
    protected abstract Task<DbDataSource> CreateSourceAsync();

    /// <summary>Gives a lease to nobody, as somebody does who changes its row.</summary>
    protected abstract Task TakeAwayAsync(LockKey key);

    protected async Task<DbDataSource> SourceAsync()
    {
        var source = await CreateSourceAsync();
        _opened.Add(source);
        return source;
    }

    [Theory, InlineData(true, true), InlineData(true, false), InlineData(false, true), InlineData(false, false)]
    public async Task It_is_held_until_it_is_let_go(bool async, bool byDispose)
    {
        var (source, other) = (await SourceAsync(), await SourceAsync());
        for (var use = 0; use < 3; use++)
        {
            var held = await AcquireAsync(source, Key, null, async, Options with { Lease = TimeSpan.FromMinutes(1) });
            Assert.Equal(Key, held.Key);
            Assert.True(held.IsHeld);
            Assert.True(await server.IsHeldAsync(Key));
            Assert.Null(await TryAsync(other, Key, default, async));
            Assert.Null(await TryAsync(source, Key, default, async));
            Assert.Null(await TryAsync(source, Key, TimeSpan.FromMilliseconds(20), async));
            await LetGoAsync(held, async, byDispose);

            // A server that is too busy to be told at once is told a moment later.
            await server.UntilFreeAsync(Key);
            Assert.False(held.IsHeld);
            Assert.False(async ? await held.ReleaseAsync() : held.Release());
            await held.DisposeAsync();
            held.ThrowIfLost();
            Assert.False(held.Lost.IsCancellationRequested);
        }
    }

    [Theory, InlineData(true, true), InlineData(true, false), InlineData(false, true), InlineData(false, false)]
    public async Task A_wait_ends_when_its_timeout_is_over(bool async, bool elsewhere)
    {
        var (source, other) = (await SourceAsync(), await SourceAsync());
        await using var held = await AcquireAsync(elsewhere ? other : source, Key, null, async);
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromTicks(1), TimeSpan.FromMilliseconds(300) })
        {
            // A server that is busy with others may not answer in time.
            var error = await Assert.ThrowsAnyAsync<LockException>(() => AcquireAsync(source, Key, timeout, async));
            Assert.True(error is LockNotAcquiredException || error.Message.Contains("nobody knows who holds it", StringComparison.Ordinal), error.Message);
        }
    }

    [Fact]
    public async Task All_kinds_of_keys_are_leases()
    {
        var (source, other) = (await SourceAsync(), await SourceAsync());
        var number = Random.Shared.NextInt64();
        LockKey[] keys = [number, -number, ((int)number, -7), Key, Name + "'\"\\", LockKey.All(Key, number, ((int)number, 3), Key)];
        foreach (var key in keys)
        {
            await using (await AcquireAsync(source, key, null, async: true))
            {
                foreach (var one in key.Keys)
                {
                    Assert.True(await server.IsHeldAsync(one));
                    Assert.Null(await TryAsync(other, one, default, async: true));
                }
            }

            foreach (var one in key.Keys)
            {
                await server.UntilFreeAsync(one);
            }
        }
    }

    [Fact]
    public async Task A_cancelled_wait_leaves_no_trace()
    {
        var (source, other) = (await SourceAsync(), await SourceAsync());
        foreach (var elsewhere in new[] { true, false })
        {
            var held = await AcquireAsync(elsewhere ? other : source, Key, null, async: true);
            using var cancel = new CancellationTokenSource();
            var waits = Enumerable.Range(0, 50).Select(_ => source.AcquireLockAsync(Key, null, lockInterface, Options, cancel.Token).AsTask()).ToList();
            await cancel.CancelAsync();
            foreach (var wait in waits)
            {
                var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
                Assert.Equal(cancel.Token, error.CancellationToken);
            }

            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => source.AcquireLockAsync(Key, null, lockInterface, Options, cancel.Token).AsTask());
            Assert.True(await held.ReleaseAsync());

            // What was under way may be given after the release, and is let go of then.
            await server.UntilFreeAsync(Key);
        }
    }

    [Fact]
    public async Task A_cancel_or_timeout_that_meets_the_grant_leaves_nothing()
    {
        var source = await SourceAsync();
        var keys = Enumerable.Range(0, 4).Select(n => (LockKey)$"{Name}{n}").ToList();
        var (granted, not) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async task =>
        {
            var random = new Random(task);
            for (var round = 0; round < 100; round++)
            {
                using var cancel = new CancellationTokenSource();
                var key = round % 5 == 0 ? LockKey.All(keys[random.Next(4)], keys[random.Next(4)]) : keys[random.Next(4)];
                var acquire = round % 2 == 0
                    ? source.AcquireLockAsync(key, null, lockInterface, Options, cancel.Token).AsTask()
                    : source.TryAcquireLockAsync(key, TimeSpan.FromMilliseconds(1), lockInterface, Options, CancellationToken.None).AsTask()!;
                for (var spin = random.Next(1000); spin > 0; spin--)
                {
                    Thread.SpinWait(20);
                }

                await (random.Next(3) == 0 ? acquire.ContinueWith(_ => { }, TaskScheduler.Default) : cancel.CancelAsync());
                var held = await acquire.ContinueWith(task => task.IsCompletedSuccessfully ? task.Result : null, TaskScheduler.Default);
                Interlocked.Increment(ref held is null ? ref not : ref granted);
                await (held?.DisposeAsync() ?? ValueTask.CompletedTask);
            }
        }));
        Assert.True(granted > 20 && not > 20, $"{granted} granted, {not} not");
        foreach (var key in keys)
        {
            await server.UntilFreeAsync(key);
        }
    }

    [Fact]
    public async Task Tasks_of_several_processes_exclude_each_other()
    {
        DbDataSource[] sources = [await SourceAsync(), await SourceAsync(), await SourceAsync()];
        var keys = Enumerable.Range(0, 3).Select(n => (LockKey)$"{Name}{n}").ToList();
        var (inside, last) = (new int[3], new long[3]);
        await Task.WhenAll(Enumerable.Range(0, 12).Select(async task =>
        {
            var random = new Random(task);
            for (var round = 0; round < 15; round++)
            {
                var chosen = Enumerable.Range(0, 3).Where(_ => random.Next(2) == 0).DefaultIfEmpty(task % 3).ToList();
                await using var held = await AcquireAsync(sources[task % 3], LockKey.All(chosen.Select(n => keys[n])), null, async: true);
                foreach (var n in chosen)
                {
                    Assert.True(Interlocked.Increment(ref inside[n]) == 1, "somebody else is inside");
                    Assert.True(held.FencingToken > last[n]);
                    last[n] = held.FencingToken!.Value;
                }

                await Task.Yield();
                chosen.ForEach(n => Interlocked.Decrement(ref inside[n]));
            }
        }));
        foreach (var key in keys)
        {
            await server.UntilFreeAsync(key);
        }
    }

    [Theory, InlineData(true, true), InlineData(true, false), InlineData(false, true), InlineData(false, false)]
    public async Task A_release_that_finds_it_gone_says_so_once_and_a_dispose_is_quiet(bool async, bool byDispose)
    {
        var source = await SourceAsync();
        var held = await AcquireAsync(source, Key, null, async);
        await TakeAwayAsync(Key);
        if (byDispose)
        {
            await LetGoAsync(held, async, byDispose);
        }
        else
        {
            await Assert.ThrowsAsync<LockLostException>(() => LetGoAsync(held, async, byDispose));
        }

        Assert.False(await held.ReleaseAsync());
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        Assert.True(held.Lost.IsCancellationRequested);
        await held.DisposeAsync();
    }

    [Fact]
    public async Task A_lease_that_nobody_has_any_more_is_let_go_and_that_is_logged()
    {
        var (source, logger) = (await SourceAsync(), new RecordingLogger());
        await AbandonAsync();
        await TestServer.UntilAsync(
            async () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !await server.IsHeldAsync(Key);
            },
            "the lease is free");
        Assert.Contains(Key.ToString(), Assert.Single(logger.Warnings, line => line.Contains("nobody has it any more", StringComparison.Ordinal)), StringComparison.Ordinal);

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync()
        {
            var held = await source.AcquireLockAsync(Key, null, lockInterface, Options with { Logger = logger });
            Assert.True(await server.IsHeldAsync(Key));
            GC.KeepAlive(held);
        }
    }

    [Fact]
    public async Task What_a_lease_cannot_be_is_refused()
    {
        var source = await SourceAsync();
        LockOptions[] wrong =
        [
            Options with { Shared = true }, Options with { Reentrant = true }, Options with { Lease = TimeSpan.FromSeconds(1) },
            Options with { AtLeast = TimeSpan.FromTicks(-1) }, Options with { ClockMargin = TimeSpan.FromSeconds(6) },
        ];
        foreach (var options in wrong)
        {
            await Assert.ThrowsAnyAsync<ArgumentException>(async () => await source.TryAcquireLockAsync(Key, default, lockInterface, options));
            Assert.ThrowsAny<ArgumentException>(() => source.TryAcquireLock(Key, default, lockInterface, options));
        }

        await Assert.ThrowsAsync<ArgumentNullException>(async () => await source.TryAcquireLockAsync(null!, default, lockInterface, Options));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => AcquireAsync(source, Key, TimeSpan.FromSeconds(-2), async: true));
        Assert.False(await server.IsHeldAsync(Key));
    }

    private static async Task LetGoAsync(HeldLock held, bool async, bool byDispose)
    {
        switch (async, byDispose)
        {
            case (true, true):
                await held.DisposeAsync();
                break;
            case (false, true):
                held.Dispose();
                break;
            default:
                Assert.True(async ? await held.ReleaseAsync() : held.Release());
                break;
        }
    }

    private async Task<HeldLock> AcquireAsync(DbDataSource source, LockKey key, TimeSpan? timeout, bool async, LockOptions? options = null) => async
        ? await source.AcquireLockAsync(key, timeout, lockInterface, options ?? Options) : source.AcquireLock(key, timeout, lockInterface, options ?? Options);

    private async Task<HeldLock?> TryAsync(DbDataSource source, LockKey key, TimeSpan timeout, bool async) => async
        ? await source.TryAcquireLockAsync(key, timeout, lockInterface, Options) : source.TryAcquireLock(key, timeout, lockInterface, Options);
}
