using System.Data.Common;

namespace DbLock.Tests;

/// <summary>What an application depends on: one contract for every source of locks.</summary>
public sealed class LockSourceTests
{
    private readonly InMemoryLockServer _server = new();

    public static TheoryData<bool> Sources => [true, false];

    [Theory, MemberData(nameof(Sources))]
    public async Task A_lock_is_held_until_it_is_let_go(bool isPool)
    {
        await using var source = new Source(_server, isPool);
        await using var held = await source.Locks.AcquireLockAsync("k");
        Assert.Equal("k", held.Key);
        Assert.True(held.IsHeld);
        Assert.Null(held.FencingToken);
        held.ThrowIfLost();
        Assert.True(_server.IsHeld("k"));
        Assert.Null(await source.Locks.TryAcquireLockAsync("k"));
        await Assert.ThrowsAsync<LockNotAcquiredException>(async () => await source.Locks.AcquireLockAsync("k", TimeSpan.Zero));
        Assert.True(await held.ReleaseAsync());
        Assert.False(await held.ReleaseAsync());
        Assert.False(held.IsHeld);
        Assert.False(held.Lost.IsCancellationRequested);
        Assert.False(_server.IsHeld("k"));

        await using (var again = await source.Locks.TryAcquireLockAsync("k", TimeSpan.FromSeconds(20)))
        {
            Assert.True(again?.IsHeld);
        }

        Assert.False(_server.IsHeld("k"));
    }

    [Theory, MemberData(nameof(Sources))]
    public async Task A_shared_lock_is_shared(bool isPool)
    {
        await using var source = new Source(_server, isPool);
        await using var one = await source.Locks.AcquireLockAsync("k", shared: true);
        await using var two = await source.Locks.TryAcquireLockAsync("k", shared: true);
        Assert.True(two?.IsHeld);
        Assert.Null(await source.Locks.TryAcquireLockAsync("k"));
    }

    [Theory, MemberData(nameof(Sources))]
    public async Task A_wait_is_cancelled(bool isPool)
    {
        await using var source = new Source(_server, isPool);
        await using var held = await source.Locks.AcquireLockAsync("k");
        using var cancel = new CancellationTokenSource();
        var wait = source.Locks.AcquireLockAsync("k", cancellationToken: cancel.Token).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
    }

    [Fact]
    public async Task The_loss_of_a_lock_is_told()
    {
        await using var source = new Source(_server, isPool: false);
        await using var held = await source.Locks.AcquireLockAsync("k");
        var lost = new TaskCompletionSource();
        await using var registration = held.Lost.Register(lost.SetResult);
        Assert.True(_server.EndSession(1));
        await lost.Task.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.False(held.IsHeld);
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(async () => await held.ReleaseAsync());
    }

    /// <summary>What is acquired around a wait is seen by the pool, also through the interface.</summary>
    [Fact]
    public async Task Tasks_of_a_pool_that_wait_for_each_other_are_found()
    {
        await using var source = new Source(_server, isPool: true);
        using var both = new Barrier(2);
        var ended = await Task.WhenAll(Cross("x", "y"), Cross("y", "x")).WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Single(ended, error => error is LockDeadlockException);
        Assert.Single(ended, error => error is null);

        async Task<Exception?> Cross(LockKey first, LockKey second)
        {
            await Task.Yield();
            await using var one = await source.Locks.AcquireLockAsync(first);
            await Task.Run(both.SignalAndWait);
            return await Record.ExceptionAsync(async () => await (await source.Locks.AcquireLockAsync(second)).DisposeAsync());
        }
    }

    [Fact]
    public async Task Options_that_no_lock_of_a_source_can_have_are_refused_when_it_is_made()
    {
        await using var dataSource = _server.CreateDataSource();
        Assert.Throws<ArgumentException>(() => dataSource.CreateLockSource(options: new LockOptions { Scope = LockScope.Transaction }));
        Assert.Throws<ArgumentNullException>(() => ((DbDataSource)null!).CreateLockSource());
    }

    private sealed class Source : IAsyncDisposable
    {
        private readonly DbDataSource _dataSource;

        public Source(InMemoryLockServer server, bool isPool)
        {
            _dataSource = server.CreateDataSource();
            Locks = isPool ? new LockPool(_dataSource) : _dataSource.CreateLockSource();
        }

        public ILockSource Locks { get; }

        public async ValueTask DisposeAsync()
        {
            if (Locks is LockPool pool)
            {
                await pool.DisposeAsync();
            }

            await _dataSource.DisposeAsync();
        }
    }
}
