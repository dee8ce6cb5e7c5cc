namespace DbLock.Specification;

/// <content>Tokens that grow with each grant.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Fencing_tokens_grow_with_each_grant(bool async)
    {
        var options = new LockOptions { Fencing = true };
        if (!Server.HasFencing)
        {
            await Assert.ThrowsAsync<NotSupportedException>(async () => await NewLock(await OpenAsync(), options).Try(async));
            return;
        }

        // Every way to acquire, over several sessions, each of which sees the last holder's token.
        var (last, grants) = (0L, 0);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async session =>
        {
            var connection = await OpenAsync();
            var plain = NewLock(connection, options);
            var several = Server.HasSeveral ? NewLock(connection, options, LockKey.All(Key, Key.Name + ":2")) : plain;
            Assert.Null(plain.FencingToken);
            for (var round = 0; round < 50; round++)
            {
                var @lock = round % 2 == 0 ? plain : several;
                var timeout = round % 3 == 1 ? TimeSpan.FromSeconds(30) : Timeout.InfiniteTimeSpan;
                if (await (round % 3 == 0 ? @lock.Try(async) : Task.Run(async () => await @lock.Acquire(async, timeout))))
                {
                    Assert.True(@lock.FencingToken > last, $"{@lock.FencingToken} after {last}");
                    last = @lock.FencingToken!.Value;
                    grants++;
                    Assert.True(await @lock.Release(async));
                    Assert.NotNull(@lock.FencingToken);
                }
            }
        }));
        Assert.True(grants > 100, $"{grants} grants");

        // Held again by the same session: the same hold, the same token.
        var again = NewLock(await OpenAsync(), options with { Reentrant = true });
        Assert.True(await again.Try(async));
        var token = again.FencingToken;
        Assert.True(await again.Try(async));
        Assert.Equal(token, again.FencingToken);
        Assert.Null(NewLock(await OpenAsync()).FencingToken);
    }

    [Fact]
    public async Task A_fencing_token_is_refused_inside_a_transaction()
    {
        var connection = await OpenAsync();
        Assert.Throws<ArgumentException>(() => NewLock(connection, new LockOptions { Fencing = true, Scope = LockScope.Transaction }));
        if (!Server.HasFencing)
        {
            return;
        }

        await using var transaction = await connection.BeginTransactionAsync();
        var @lock = NewLock(connection, new LockOptions { Fencing = true });
        @lock.Transaction = transaction;
        await Assert.ThrowsAsync<InvalidOperationException>(() => @lock.AcquireAsync(block: false).AsTask());
        Assert.False(await Server.IsHeldAsync(Key));
        await transaction.RollbackAsync();
        if (!ShowsCompletedTransactions)
        {
            @lock.Transaction = null;
        }

        Assert.True(await @lock.AcquireAsync(block: false));
        Assert.True(await @lock.ReleaseAsync());
    }
}
