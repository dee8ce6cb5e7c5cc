namespace DbLock.Specification;

/// <content>Waits: granted, cancelled, ended by a deadlock.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    [Trait("Part", "Quick")]
    public async Task A_wait_is_granted_when_the_holder_lets_go(bool async, bool forEver)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.Try(async));
        var waiting = b.Start(async, forEver ? Timeout.InfiniteTimeSpan : TimeSpan.FromMinutes(5));
        await Server.UntilWaitingAsync(session);
        Assert.False(waiting.IsCompleted);
        Assert.True(await a.Release(async));
        Assert.True(await waiting);
        Assert.True(b.IsHeld);
        Assert.False(await a.Try(async));
        Assert.True(await b.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_wait_that_yields_is_granted_times_out_and_is_cancelled_as_any_other(bool async)
    {
        var options = new LockOptions { Wait = LockWait.Yielding };
        var (holder, waiter) = (NewLock(await OpenAsync()), NewLock(await OpenAsync(), options));
        Assert.True(await waiter.Acquire(async, Timeout.InfiniteTimeSpan));
        Assert.True(await waiter.Release(async));
        Assert.True(await holder.Try(async));
        Assert.False(await waiter.Acquire(async, TimeSpan.FromMilliseconds(450)));
        using (var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(450)))
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiter.AcquireAsync(cancel.Token).AsTask());
        }

        // Longer than a slice: the server is asked again and again.
        var driver = new CountingDriver(Interface.Driver);
        var seen = new Lock(await OpenAsync(), Key, new LockInterface(Interface.Name, driver, Interface.Dialects), options);
        var waiting = seen.Start(async, Timeout.InfiniteTimeSpan);
        await TestServer.UntilAsync(async () => await Server.IsHeldAsync(Key) && driver.Count > 5, "several slices are over");
        Assert.False(waiting.IsCompleted);
        Assert.True(await holder.Release(async));
        Assert.True(await waiting);
        Assert.True(await seen.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Fact]
    [Trait("Part", "Quick")]
    public async Task A_cancelled_wait_is_not_held()
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.AcquireAsync());
        using var cancel = new CancellationTokenSource();
        var waiting = b.Start(async: true, Timeout.InfiniteTimeSpan, cancel.Token);
        await Server.UntilWaitingAsync(session);
        await cancel.CancelAsync();
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.Equal(cancel.Token, error.CancellationToken);
        Assert.False(b.IsHeld);
        Assert.True(await a.ReleaseAsync());
        Assert.False(await Server.IsHeldAsync(Key));

        // The connection is as good as before.
        Assert.Equal(session, await Server.SessionIdAsync(connection));
        Assert.True(await b.AcquireAsync());
        Assert.True(await b.ReleaseAsync());
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => b.AcquireAsync(cancel.Token).AsTask());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_deadlock_is_told_and_leaves_nothing(bool async)
    {
        LockKey other = Key.Name + ":other";
        var (first, second) = (await OpenAsync(), await OpenAsync());
        var (ax, ay) = (NewLock(first), NewLock(first, key: other));
        var (bx, by) = (NewLock(second), NewLock(second, key: other));
        Assert.True(await ax.Try(async));
        Assert.True(await by.Try(async));
        var (a, b) = (ay.Start(async, Timeout.InfiniteTimeSpan), bx.Start(async, Timeout.InfiniteTimeSpan));
        var victim = await Task.WhenAny(a, b);
        var error = await Assert.ThrowsAsync<LockDeadlockException>(() => victim);
        var (kept, lost, winner) = victim == a ? (ax, ay, b) : (by, bx, a);
        Assert.Contains($"still holds '{kept.Key}'", error.Message, StringComparison.Ordinal);
        Assert.False(lost.IsHeld);
        Assert.True(kept.IsHeld);
        Assert.True(await kept.Release(async));
        Assert.True(await winner);
        foreach (var each in new[] { ax, ay, bx, by })
        {
            await each.Release(async);
        }

        Assert.False(await Server.IsHeldAsync(Key));
        Assert.False(await Server.IsHeldAsync(other));
    }
}
