using System.Data;
using System.Data.Common;

namespace DbLock.ServerTests;

/// <content>Transactions, their savepoints and snapshots.</content>
public abstract partial class PostgreSqlSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task What_a_rollback_to_a_savepoint_let_go_is_acquired_again(bool async)
    {
        var connection = await OpenAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        var a = NewLock(connection, new LockOptions { Scope = LockScope.Transaction });
        a.Transaction = transaction;
        foreach (var timeout in new[] { TimeSpan.Zero, ShortWait, Timeout.InfiniteTimeSpan })
        {
            await ExecuteAsync(connection, "savepoint mine", transaction);
            Assert.True(await a.Acquire(async, timeout));
            Assert.False(await a.Try(async));
            await ExecuteAsync(connection, "rollback to savepoint mine", transaction);
            Assert.False(await Server.IsHeldAsync(Key));
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await Server.IsHeldAsync(Key));
            Assert.False(await a.Try(async));
            await ExecuteAsync(connection, "rollback to savepoint mine", transaction);
        }

        await transaction.CommitAsync();
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_hold_of_a_transaction_that_has_ended_is_not_claimed(bool async)
    {
        // Some providers use their transaction object again.
        var (connection, other) = (await OpenAsync(), NewLock(await OpenAsync()));
        var options = new LockOptions { Scope = LockScope.Transaction };
        var (a, b) = (NewLock(connection, options), NewLock(connection, options));
        for (var round = 0; round < 3; round++)
        {
            await using (var first = await connection.BeginTransactionAsync())
            {
                a.Transaction = first;
                Assert.True(await a.Try(async));
                Assert.True(a.IsHeld);
                await first.CommitAsync();
            }

            Assert.True(await other.Try(async));
            await using (var second = await connection.BeginTransactionAsync())
            {
                a.Transaction = b.Transaction = second;
                Assert.False(await b.Try(async));
                Assert.False(b.IsHeld);
                Assert.False(await a.Acquire(async, ShortWait));
                Assert.False(a.IsHeld);
                Assert.False(a.Lost.IsCancellationRequested);
                Assert.True(await other.Release(async));
                Assert.True(await b.Try(async));
                Assert.False(await a.Try(async));
                await second.CommitAsync();
            }
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_snapshot_of_a_serializable_transaction_is_warned_of_once(bool async)
    {
        var logger = new RecordingLogger();
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Logger = logger });
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.Serializable);
        a.Transaction = transaction;
        Assert.True(await a.Acquire(async, ShortWait));
        await transaction.RollbackAsync();
        Assert.True(await a.Release(async));
        Assert.Contains("snapshot", Assert.Single(logger.Warnings), StringComparison.Ordinal);
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    public async Task A_release_is_false_while_a_transaction_that_the_lock_does_not_know_keeps_what_was_waited_for(bool async, bool several)
    {
        var logger = new RecordingLogger();
        var connection = await OpenAsync();
        var key = several ? LockKey.All(Key, Key.Name + ":2") : Key;
        var (holder, other) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        var a = new Lock(connection, key, Interface, new LockOptions { Logger = logger });
        await ExecuteAsync(connection, "begin");
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await holder.Try(async));
        var waiting = a.Start(async, TimeSpan.FromMinutes(1));
        await Server.UntilWaitingAsync(session);
        Assert.True(await holder.Release(async));
        Assert.True(await waiting);

        Assert.False(await a.Release(async));
        Assert.False(a.IsHeld);
        Assert.True(await Server.IsHeldAsync(Key));
        Assert.Contains(logger.Warnings, line => line.Contains("stays locked until the transaction ends", StringComparison.Ordinal));
        await ExecuteAsync(connection, "commit");
        Assert.False(await Server.IsHeldAsync(Key));

        // Out of a transaction the wait leaves nothing, and what was free was not waited for.
        Assert.True(await other.Try(async));
        waiting = a.Start(async, TimeSpan.FromMinutes(1));
        await Server.UntilWaitingAsync(session);
        Assert.True(await other.Release(async));
        Assert.True(await waiting);
        Assert.True(await a.Release(async));
        await ExecuteAsync(connection, "begin");
        Assert.True(await a.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
        await ExecuteAsync(connection, "commit");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_transaction_that_was_not_given_is_named_and_nothing_of_it_is_committed(bool async)
    {
        var table = "undeclared_" + Guid.NewGuid().ToString("N");
        var (connection, other) = (await OpenAsync(), NewLock(await OpenAsync()));
        await ExecuteAsync(connection, $"create table {table} (n int)");
        var a = NewLock(connection);
        Assert.True(await other.Try(async));
        var transaction = await connection.BeginTransactionAsync();
        await ExecuteAsync(connection, $"insert into {table} values (1)", transaction);
        var error = await Assert.ThrowsAnyAsync<Exception>(() => a.Acquire(async, TimeSpan.FromMilliseconds(50)));
        Assert.True(error is LockException or InvalidOperationException, error.ToString());
        Assert.Contains("Lock.Transaction", error.Message, StringComparison.Ordinal);
        Assert.False(a.IsHeld);
        Assert.True(await other.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
        await transaction.RollbackAsync();
        Assert.Equal(0L, Convert.ToInt64(await ExecuteAsync(connection, $"select count(*) from {table}"), null));
        Assert.True(await a.Try(async));
        Assert.True(await a.Release(async));
        await ExecuteAsync(connection, $"drop table {table}");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_transaction_that_has_failed_is_told_and_is_the_callers_to_mend(bool async)
    {
        if (!AnErrorAbortsTheTransaction)
        {
            return;
        }

        foreach (var timeout in new[] { TimeSpan.Zero, ShortWait })
        {
            var connection = await OpenAsync();
            var session = await Server.SessionIdAsync(connection);
            var a = NewLock(connection);
            await using var transaction = await connection.BeginTransactionAsync();
            await ExecuteAsync(connection, "create temporary table mine (n int) on commit drop", transaction);

            // A savepoint of the caller's, by the name that ours has.
            await ExecuteAsync(connection, "savepoint dblock_acquire", transaction);
            await ExecuteAsync(connection, "insert into mine values (1)", transaction);
            await ExecuteAsync(connection, "savepoint later", transaction);
            await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
            Assert.Contains(
                "Lock.Transaction",
                (await Assert.ThrowsAsync<LockException>(() => a.Acquire(async, timeout))).Message, StringComparison.Ordinal);
            a.Transaction = transaction;
            Assert.Equal("25P02", (await Assert.ThrowsAnyAsync<DbException>(() => a.Acquire(async, timeout))).SqlState);
            Assert.False(a.IsHeld);
            await ExecuteAsync(connection, "rollback to savepoint later", transaction);
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await a.Release(async));
            Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine", transaction));
            await ExecuteAsync(connection, "rollback to savepoint dblock_acquire", transaction);
            Assert.Equal(0L, await ExecuteAsync(connection, "select count(*) from mine", transaction));
            await transaction.CommitAsync();
            Assert.Equal(session, await Server.SessionIdAsync(connection));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lost_lock_is_told_in_a_transaction_that_has_failed_too(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        Assert.True(await a.Try(async));
        await using var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        await ExecuteAsync(connection, "select pg_advisory_unlock_all()", transaction);
        await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
        await Assert.ThrowsAsync<LockLostException>(() => a.Release(async));
        Assert.False(a.IsHeld);
    }
}
