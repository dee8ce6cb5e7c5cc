using System.Diagnostics;

namespace DbLock.Specification;

/// <content>How long a wait lasts.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task A_timeout_answers_false_and_leaves_nothing(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        var clock = Stopwatch.StartNew();
        Assert.False(await b.Acquire(async, ShortWait));
        Assert.True(clock.Elapsed >= ShortWait - TimeSpan.FromMilliseconds(5), $"It waited only {clock.Elapsed}.");
        Assert.False(b.IsHeld);
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.True(await b.Acquire(async, ShortWait));
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_shortest_timeout_is_a_wait_and_not_for_ever(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        Assert.False(await b.Acquire(async, TimeSpan.FromTicks(1)));
        Assert.True(await a.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_longest_timeout_is_a_wait(bool async)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.Try(async));
        var waiting = b.Start(async, Server.Dialect.MaxTimeout);
        await Server.UntilWaitingAsync(session);
        Assert.True(await a.Release(async));
        Assert.True(await waiting);
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_timeout_out_of_range_is_refused(bool async)
    {
        var a = NewLock(await OpenAsync());
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => a.Acquire(async, TimeSpan.FromSeconds(-5)));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => a.Acquire(async, TimeSpan.FromTicks(-1)));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => a.Acquire(async, TimeSpan.MaxValue));
        Assert.False(await Server.IsHeldAsync(Key));
    }
}
