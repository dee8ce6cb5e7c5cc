namespace DbLock.ServerTests;

/// <content>Several keys beside what else the session holds.</content>
public abstract partial class PostgreSqlSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task What_others_hold_on_the_session_is_not_let_go_by_several_keys(bool async)
    {
        LockKey[] keys = [.. LockKey.All(Key.Name + ":1", Key.Name + ":2", Key.Name + ":3").Keys];
        var (connection, other) = (await OpenAsync(), NewLock(await OpenAsync(), key: keys[2]));
        Assert.True(await other.Try(async));

        // Somebody's own SQL, for the first key; a lock of ours, for the second.
        await ExecuteAsync(connection, $"select pg_advisory_lock({keys[0].Number})");
        foreach (var scope in new[] { LockScope.Session, LockScope.Transaction })
        {
            await using (var transaction = await connection.BeginTransactionAsync())
            {
                var all = NewLock(connection, new LockOptions { Scope = scope }, LockKey.All(keys));
                all.Transaction = transaction;
                Assert.False(await all.Try(async));
                Assert.False(await all.Acquire(async, ShortWait));
                await transaction.CommitAsync();
            }

            Assert.True(await Server.IsHeldAsync(keys[0]));
        }

        var ours = NewLock(connection, key: keys[1]);
        var before = NewLock(connection, new LockOptions { Scope = LockScope.Transaction }, keys[0]);
        Assert.True(await ours.Try(async));
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            before.Transaction = transaction;
            Assert.True(await before.Try(async));
            await transaction.CommitAsync();
        }

        await using (var transaction = await connection.BeginTransactionAsync())
        {
            var all = NewLock(connection, new LockOptions { Scope = LockScope.Transaction }, LockKey.All(keys));
            all.Transaction = transaction;
            Assert.False(await all.Try(async));
            Assert.Contains(
                "share a key",
                (await Assert.ThrowsAsync<LockException>(() => all.Acquire(async, ShortWait))).Message, StringComparison.Ordinal);
            Assert.True(ours.IsHeld);
            Assert.True(await Server.IsHeldAsync(keys[1]));
            await transaction.CommitAsync();
        }

        Assert.True(await ours.Release(async));
        Assert.True(await other.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Several_free_keys_leave_nothing_in_a_transaction_that_was_not_given(bool async)
    {
        var (connection, all) = (await OpenAsync(), default(Lock));
        all = NewLock(connection, key: LockKey.All(Key, Key.Name + ":2"));
        await using var transaction = await connection.BeginTransactionAsync();
        var error = await Record.ExceptionAsync(() => all.Acquire(async, TimeSpan.FromSeconds(5)));
        if (error is not null)
        {
            // Some providers want to be told the transaction.
            Assert.IsType<InvalidOperationException>(error);
            return;
        }

        Assert.True(await all.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal("0", await ExecuteAsync(connection, "show lock_timeout", transaction));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Several_keys_of_which_one_is_gone_leave_none(bool async)
    {
        var connection = await OpenAsync();
        var keys = LockKey.All(Key, Key.Name + ":2", Key.Name + ":3");
        var all = NewLock(connection, new LockOptions { Reentrant = true }, keys);
        Assert.True(await all.Try(async));
        await ExecuteAsync(connection, $"select pg_advisory_unlock({keys.Keys[1].Number})");
        await Assert.ThrowsAsync<LockLostException>(() => all.Try(async));
        Assert.True(all.Lost.IsCancellationRequested);
        Assert.Empty(await WhereAsync(keys.Keys, Server.IsHeldAsync));
    }
}
