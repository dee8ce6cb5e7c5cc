namespace DbLock.Specification;

/// <content>Shared locks.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Shared_holders_stand_together_and_keep_an_exclusive_one_out(bool async)
    {
        var shared = new LockOptions { Shared = true };
        var (a, b, c) = (NewLock(await OpenAsync(), shared), NewLock(await OpenAsync(), shared), NewLock(await OpenAsync()));
        if (!Server.HasShared)
        {
            Assert.Contains(
                "no shared locks",
                (await Assert.ThrowsAsync<NotSupportedException>(() => a.Try(async))).Message, StringComparison.Ordinal);
            return;
        }

        Assert.True(await a.Try(async));
        Assert.True(await b.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.False(await c.Try(async));
        Assert.True(await a.Release(async));
        Assert.False(await c.Acquire(async, ShortWait));
        Assert.True(await b.Release(async));
        Assert.True(await c.Try(async));
        Assert.False(await a.Try(async));
        Assert.True(await c.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Shared_then_exclusive_on_one_session_is_the_same_key_again(bool async)
    {
        if (!Server.HasShared)
        {
            return;
        }

        foreach (var reentrant in new[] { false, true })
        {
            var connection = await OpenAsync();
            var a = NewLock(connection, new LockOptions { Shared = true, Reentrant = reentrant });
            var b = NewLock(connection, new LockOptions { Reentrant = reentrant });
            Assert.True(await a.Try(async));
            Assert.False(await b.Try(async));
            await Assert.ThrowsAsync<LockException>(() => b.Acquire(async, ShortWait));
            Assert.True(await a.Release(async));
        }
    }
}
