using System.Globalization;
using System.Transactions;

namespace DbLock.Specification;

/// <content>Locks of transactions, and locks of sessions in transactions.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Transaction_scope_ends_with_the_transaction(bool async)
    {
        var connection = await OpenAsync();
        var options = new LockOptions { Scope = LockScope.Transaction };
        var (a, other) = (NewLock(connection, options), NewLock(await OpenAsync()));
        if (!Server.HasTransactionScope)
        {
            await using var unused = await connection.BeginTransactionAsync();
            a.Transaction = unused;
            Assert.Contains(
                "LockScope.Session",
                (await Assert.ThrowsAsync<NotSupportedException>(() => a.Try(async))).Message, StringComparison.Ordinal);
            return;
        }

        foreach (var (commit, timeout) in new[] { (true, TimeSpan.Zero), (false, ShortWait), (true, Timeout.InfiniteTimeSpan) })
        {
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(a.IsHeld);
            Assert.False(await other.Try(async));
            Assert.False(await a.Release(async));
            Assert.True(a.IsHeld);
            Assert.False(await a.Try(async));
            Assert.True(await Server.IsHeldAsync(Key));
            if (commit)
            {
                await transaction.CommitAsync();
            }
            else
            {
                await transaction.RollbackAsync();
            }

            Assert.False(a.IsHeld);
            Assert.False(await Server.IsHeldAsync(Key));
            Assert.False(await a.Release(async));

            // Npgsql uses the object of a transaction that was not disposed again for the next one.
            await using var next = await connection.BeginTransactionAsync();
            a.Transaction = next;
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await Server.IsHeldAsync(Key));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Transaction_scope_without_a_transaction_is_refused(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Scope = LockScope.Transaction });
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => a.Try(async));
        Assert.Contains("Lock.Transaction", error.Message, StringComparison.Ordinal);

        if (!ShowsCompletedTransactions)
        {
            return;
        }

        // A completed transaction is none.
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        await transaction.CommitAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(() => a.Try(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Fact]
    public async Task A_transaction_of_another_connection_is_refused()
    {
        var (first, second) = (await OpenAsync(), await OpenAsync());
        await using var transaction = await second.BeginTransactionAsync();
        var a = NewLock(first);
        Assert.Contains(
            "another connection", Assert.Throws<ArgumentException>(() => a.Transaction = transaction).Message, StringComparison.Ordinal);
        Assert.Null(a.Transaction);
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task An_open_transaction_survives_a_timeout_with_its_work(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var table = await CreateTableAsync();
        foreach (var scope in Server.HasTransactionScope ? new[] { LockScope.Session, LockScope.Transaction } : [LockScope.Session])
        {
            var connection = await OpenAsync();
            var (a, b) = (NewLock(await OpenAsync()), NewLock(connection, new LockOptions { Scope = scope }));
            await using var transaction = await connection.BeginTransactionAsync();
            b.Transaction = transaction;
            await ExecuteAsync(connection, $"insert into {table} values (1)", transaction);
            Assert.True(await a.Try(async));
            Assert.False(await b.Acquire(async, ShortWait));
            Assert.False(await b.Try(async));
            await ExecuteAsync(connection, $"insert into {table} values (2)", transaction);
            Assert.True(await a.Release(async));
            Assert.True(await b.Acquire(async, ShortWait));
            await ExecuteAsync(connection, $"insert into {table} values (3)", transaction);
            Assert.Equal(scope == LockScope.Session, await b.Release(async));
            await transaction.CommitAsync();
            Assert.False(await Server.IsHeldAsync(Key));
            var count = await ExecuteAsync(connection, $"select count(*) from {table}");
            Assert.Equal(3L, Convert.ToInt64(count, CultureInfo.InvariantCulture));
            await ExecuteAsync(connection, $"delete from {table}");
        }

        await DropTableAsync(table);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_lock_taken_in_a_transaction_is_let_go_before_its_end(bool async)
    {
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromMinutes(1), Timeout.InfiniteTimeSpan })
        {
            var logger = new RecordingLogger();
            var connection = await OpenAsync();
            var (a, b) = (NewLock(connection, new LockOptions { Logger = logger }), NewLock(await OpenAsync()));
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await a.Release(async));
            Assert.True(await b.Try(async));
            Assert.True(await b.Release(async));
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await a.Release(async));
            await transaction.CommitAsync();
            Assert.Contains("inside an open transaction", Assert.Single(logger.Warnings), StringComparison.Ordinal);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_lock_outlives_a_rollback(bool async)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(connection), NewLock(await OpenAsync()));
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        Assert.True(await a.Acquire(async, ShortWait));
        await transaction.RollbackAsync();
        Assert.True(a.IsHeld);
        Assert.False(await b.Try(async));
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task In_a_transaction_scope_a_connection_that_is_not_enlisted_works_and_one_that_may_be_is_refused(bool async)
    {
        var a = NewLock(await OpenAsync());
        var b = NewLock(await OpenAsync(), key: Key.Name + ":other");
        Assert.True(await a.Try(async));
        using (new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
        {
            if (ShowsEnlistment)
            {
                Assert.True(await b.Try(async));
                Assert.True(await b.Release(async));
                Assert.False(await Server.IsHeldAsync(b.Key));
            }
            else
            {
                var error = await Assert.ThrowsAsync<InvalidOperationException>(() => b.Try(async));
                Assert.Contains("TransactionScopeOption.Suppress", error.Message, StringComparison.Ordinal);
            }

            using (new TransactionScope(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled))
            {
                Assert.True(await b.Try(async));
                Assert.True(await b.Release(async));
            }

            Assert.True(await a.Release(async));
        }

        Assert.False(await Server.IsHeldAsync(Key));
    }
}
