using System.Data.Common;

namespace DbLock.Specification;

/// <content>Whether a lock is held is asked of the server.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Whether_it_is_held_is_asked_without_counting(bool async)
    {
        var a = NewLock(await OpenAsync(), new LockOptions { Reentrant = true });
        Assert.False(await a.IsHeldNow(async));
        Assert.True(await a.Try(async));
        Assert.True(await a.Acquire(async, Timeout.InfiniteTimeSpan));
        for (var n = 0; n < 5; n++)
        {
            Assert.True(await a.IsHeldNow(async));
        }

        Assert.True(await a.Release(async));
        Assert.True(await a.IsHeldNow(async));
        Assert.True(await a.Release(async));
        Assert.False(await a.IsHeldNow(async));
        Assert.False(await Server.IsHeldAsync(Key));
        await a.Dispose(async);
        Assert.False(await a.IsHeldNow(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Several_and_shared_locks_are_asked_for_too(bool async)
    {
        var connection = await OpenAsync();
        List<Lock> locks = [NewLock(connection)];
        if (Server.HasShared)
        {
            locks.Add(NewLock(connection, new LockOptions { Shared = true }, $"{Key}-shared"));
        }

        if (Server.HasSeveral)
        {
            locks.Add(NewLock(connection, key: LockKey.All($"{Key}-1", $"{Key}-2")));
        }

        foreach (var a in locks)
        {
            Assert.True(await a.Try(async));
            Assert.True(await a.IsHeldNow(async));
            Assert.True(await a.Release(async));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_was_killed_holds_nothing_when_asked(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        Assert.True(await a.Try(async));
        var lost = a.Lost;
        await Server.KillAsync(await Server.SessionIdAsync(connection));
        await Server.UntilFreeAsync(Key);
        Assert.True(a.IsHeld);
        Assert.False(await a.IsHeldNow(async));
        Assert.True(lost.IsCancellationRequested);
        Assert.False(a.IsHeld);
        Assert.Throws<LockLostException>(a.ThrowIfLost);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lock_of_transaction_scope_is_held_until_the_transaction_ends(bool async)
    {
        if (!Server.HasTransactionScope)
        {
            return;
        }

        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Scope = LockScope.Transaction });
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            a.Transaction = transaction;
            Assert.True(await a.Try(async));
            Assert.True(await a.IsHeldNow(async));
            await transaction.CommitAsync();
        }

        Assert.False(await a.IsHeldNow(async));
        Assert.False(a.Lost.IsCancellationRequested);
    }

    [Fact]
    public async Task A_question_that_was_cancelled_before_is_not_asked()
    {
        var a = NewLock(await OpenAsync());
        Assert.True(await a.Try(async: true));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await a.IsHeldAsync(new CancellationToken(true)));
        Assert.True(await a.IsHeldNow(async: true));
        Assert.True(await a.Release(async: true));
    }
}
