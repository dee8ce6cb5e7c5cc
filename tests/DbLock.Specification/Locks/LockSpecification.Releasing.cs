using System.Data;

namespace DbLock.Specification;

/// <content>Letting go, and what is held more than once.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task Release_of_what_is_not_held_answers_false(bool async)
    {
        var a = NewLock(await OpenAsync());
        Assert.False(await a.Release(async));
        Assert.True(await a.Try(async));
        Assert.True(await a.Release(async));
        Assert.False(await a.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Dispose_lets_go_and_is_quiet(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Reentrant = true });
        Assert.True(await a.Try(async));
        Assert.True(await a.Try(async));
        await a.Dispose(async);
        Assert.False(await Server.IsHeldAsync(Key));
        await a.Dispose(async);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => a.Try(async));
        Assert.False(await a.Release(async));
        Assert.Equal(ConnectionState.Open, connection.State);

        var b = NewLock(connection);
        Assert.True(await b.Try(async));
        await Server.KillAsync(await Server.SessionIdAsync(connection));
        await Server.UntilFreeAsync(Key);
        await b.Dispose(async);
        await b.Dispose(async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_second_acquire_of_a_held_lock_is_refused(bool async)
    {
        var connection = await OpenAsync();
        var (a, twin) = (NewLock(connection), NewLock(connection));
        Assert.True(await a.Try(async));
        foreach (var again in new[] { a, twin })
        {
            Assert.False(await again.Try(async));
            var error = await Assert.ThrowsAsync<LockException>(() => again.Acquire(async, Timeout.InfiniteTimeSpan));
            Assert.Contains("would wait for itself", error.Message, StringComparison.Ordinal);
            await Assert.ThrowsAsync<LockException>(() => again.Acquire(async, TimeSpan.FromMinutes(1)));
        }

        Assert.False(twin.IsHeld);
        Assert.False(await twin.Release(async));
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task A_reentrant_lock_counts(bool async)
    {
        var connection = await OpenAsync();
        var options = new LockOptions { Reentrant = true };
        var (a, twin) = (NewLock(connection, options), NewLock(connection, options));
        Assert.True(await a.Try(async));
        Assert.True(await a.Acquire(async, Timeout.InfiniteTimeSpan));
        Assert.True(await twin.Acquire(async, ShortWait));
        Assert.True(await a.Release(async));
        Assert.True(a.IsHeld);
        Assert.True(await a.Release(async));
        Assert.False(a.IsHeld);
        Assert.False(await a.Release(async));
        Assert.True(await Server.IsHeldAsync(Key));
        Assert.True(await twin.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }
}
