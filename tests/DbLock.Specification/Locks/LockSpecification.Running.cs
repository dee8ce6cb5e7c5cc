using System.Data.Common;
using System.Globalization;

namespace DbLock.Specification;

/// <content>A body that runs under the lock.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task Run_holds_the_lock_while_the_body_runs(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        var ran = 0;
        await a.Run(async, () =>
        {
            ran++;
            Assert.True(a.IsHeld);
            Assert.False(b.Acquire(block: false));
        });
        Assert.Equal(1, ran);
        Assert.False(await Server.IsHeldAsync(Key));
        await Assert.ThrowsAsync<DivideByZeroException>(() => a.Run(async, () => throw new DivideByZeroException()));
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal(7, a.Run(() => 7));
        Assert.Equal(8, await a.RunAsync(_ => Task.FromResult(8)));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_does_not_run_without_the_lock(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => b.Run(async, () => Assert.Fail("It ran."), ShortWait));
        Assert.Contains("was not acquired within", error.Message, StringComparison.Ordinal);
        Assert.False(await b.TryRun(async, () => Assert.Fail("It ran.")));
        Assert.True(await a.Release(async));
        var ran = false;
        Assert.True(await b.TryRun(async, () => ran = true));
        Assert.True(ran);
    }

    [Fact]
    public async Task A_body_sees_the_callers_cancel_and_the_lock_is_let_go()
    {
        var a = NewLock(await OpenAsync());
        using var cancel = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => a.RunAsync(
            async token =>
            {
                await cancel.CancelAsync();
                token.ThrowIfCancellationRequested();
            },
            cancellationToken: cancel.Token));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false, false), InlineData(false, true), InlineData(true, false), InlineData(true, true)]
    public async Task A_body_in_a_transaction_is_committed_or_rolled_back_with_it(bool async, bool transactionScope)
    {
        if (!Server.HasSql || (transactionScope && !Server.HasTransactionScope))
        {
            return;
        }

        var table = await CreateTableAsync();
        var (connection, observer) = (await OpenAsync(), await OpenAsync());
        var options = new LockOptions { Scope = transactionScope ? LockScope.Transaction : LockScope.Session };
        var a = NewLock(connection, options);
        await InTransaction(() => Insert(1));
        Assert.Equal(1L, await CountAsync());
        await Assert.ThrowsAsync<DivideByZeroException>(() => InTransaction(() =>
        {
            Insert(2);
            throw new DivideByZeroException();
        }));
        Assert.Equal(1L, await CountAsync());
        Assert.False(await Server.IsHeldAsync(Key));

        // In an open transaction an error costs the body's part alone.
        await using (var outer = await connection.BeginTransactionAsync())
        {
            a.Transaction = outer;
            await ExecuteAsync(connection, $"insert into {table} values (3)", outer);
            await Assert.ThrowsAsync<DivideByZeroException>(() => InTransaction(() =>
            {
                Insert(4);
                throw new DivideByZeroException();
            }));
            Assert.False(a.IsHeld);
            Assert.False(await Server.IsHeldAsync(Key));
            await InTransaction(() => Insert(5));
            Assert.Equal(transactionScope, await Server.IsHeldAsync(Key));
            await outer.CommitAsync();
            a.Transaction = null;
        }

        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal(3L, await CountAsync());
        Assert.Equal(9L, Convert.ToInt64(await ExecuteAsync(observer, $"select sum(n) from {table}"), CultureInfo.InvariantCulture));

        // Held before: the hold that the body had is given back, and the caller's own stays.
        if (!transactionScope)
        {
            var outside = a;
            a = NewLock(connection, new LockOptions { Reentrant = true });
            Assert.True(await a.Try(async));
            await using (var outer = await connection.BeginTransactionAsync())
            {
                a.Transaction = outer;
                await Assert.ThrowsAsync<DivideByZeroException>(() => InTransaction(() => throw new DivideByZeroException()));
                a.Transaction = null;
                await outer.RollbackAsync();
            }

            Assert.True(a.IsHeld);
            Assert.True(await a.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));
            a = outside;
        }

        // The body does not run without the lock.
        var holder = NewLock(observer);
        Assert.True(await holder.Try(async));
        await Assert.ThrowsAsync<LockNotAcquiredException>(() => InTransaction(() => Assert.Fail("It ran."), ShortWait));
        Assert.True(await holder.Release(async));
        await DropTableAsync(table);

        async Task InTransaction(Action body, TimeSpan? timeout = null)
        {
            void Checked(DbTransaction transaction)
            {
                Assert.True(a.IsHeld);
                Assert.Same(a.Transaction, transaction);
                body();
            }

            if (async)
            {
                await a.RunInTransactionAsync(
                    async (transaction, _) =>
                    {
                        await Task.Yield();
                        Checked(transaction);
                    },
                    timeout);
            }
            else
            {
                a.RunInTransaction(Checked, timeout);
            }
        }

        void Insert(int n)
        {
            using var command = connection.CreateCommand();
            command.CommandText = string.Create(CultureInfo.InvariantCulture, $"insert into {table} values ({n})");
            command.Transaction = a.Transaction;
            command.ExecuteNonQuery();
        }

        async Task<long> CountAsync() =>
            Convert.ToInt64(await ExecuteAsync(observer, $"select count(*) from {table}"), CultureInfo.InvariantCulture);
    }
}
