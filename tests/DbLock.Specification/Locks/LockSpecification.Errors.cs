using System.Data;
using System.Data.Common;
using System.Globalization;

namespace DbLock.Specification;

/// <content>After an error, in a transaction and with an open reader: no lock stays.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task After_an_error_the_transaction_is_rolled_back_and_the_lock_let_go(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var table = await CreateTableAsync();
        var connection = await OpenAsync();
        var a = NewLock(connection);
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        Assert.True(await a.Acquire(async, ShortWait));
        Exception? seen = null;
        try
        {
            await ExecuteAsync(connection, $"insert into {table} values (1)", transaction);
            await ExecuteAsync(connection, Server.FailingSql, transaction);
        }
        catch (DbException e)
        {
            seen = e;
            await a.HandleError(async, e);
        }
        finally
        {
            Assert.True(await a.Release(async));
        }

        Assert.NotNull(seen);
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal(0L, Convert.ToInt64(await ExecuteAsync(connection, $"select count(*) from {table}"), CultureInfo.InvariantCulture));
        await DropTableAsync(table);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_that_fails_in_its_transaction_comes_out_with_its_own_exception(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var connection = await OpenAsync();
        var a = NewLock(connection);
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        var error = await Assert.ThrowsAnyAsync<DbException>(() => a.Run(async, () =>
        {
            Assert.True(a.IsHeld);
            using var command = connection.CreateCommand();
            command.CommandText = Server.FailingSql;
            command.Transaction = transaction;
            command.ExecuteNonQuery();
        }));
        Assert.Contains("there_is_no_such_table", error.Message, StringComparison.Ordinal);
        Assert.False(a.IsHeld);
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_release_in_an_aborted_transaction_rolls_it_back_or_says_so(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        foreach (var rollbackOnError in new[] { true, false })
        {
            var connection = await OpenAsync();
            var a = NewLock(connection, new LockOptions { RollbackOnError = rollbackOnError });
            var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Try(async));
            await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
            if (AnErrorAbortsTheTransaction && !rollbackOnError)
            {
                var error = await Assert.ThrowsAsync<LockException>(() => a.Release(async));
                Assert.Contains("still held", error.Message, StringComparison.Ordinal);
                Assert.True(a.IsHeld);
                await transaction.RollbackAsync();
            }

            Assert.True(await a.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Dispose_in_an_aborted_transaction_leaves_no_lock(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        foreach (var rollbackOnError in new[] { true, false })
        {
            var connection = await OpenAsync();
            var a = NewLock(connection, new LockOptions { RollbackOnError = rollbackOnError });
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Try(async));
            await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
            await a.Dispose(async);
            await Server.UntilFreeAsync(Key);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task An_open_reader_is_named_or_no_hindrance(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var connection = await OpenAsync();
        var (a, b) = (NewLock(connection), NewLock(connection, key: Key.Name + ":other"));
        Assert.True(await a.Try(async));
        await using (var command = connection.CreateCommand())
        {
            command.CommandText = "select 1";
            await using var reader = await command.ExecuteReaderAsync();
            foreach (var timeout in new[] { TimeSpan.Zero, Timeout.InfiniteTimeSpan })
            {
                // Some providers have read all there is, and then no reader is in the way.
                var error = await Record.ExceptionAsync(() => b.Acquire(async, timeout));
                Assert.True(error is InvalidOperationException || (error is null && ReadsAhead), $"{error}");
                Assert.Contains("open reader", error?.Message ?? "no open reader", StringComparison.Ordinal);
                Assert.Equal(error is null, b.IsHeld);
                await Record.ExceptionAsync(() => b.Release(async));
            }

            if (!ReadsAhead)
            {
                Assert.Contains(
                    "still held",
                    (await Assert.ThrowsAsync<InvalidOperationException>(() => a.Release(async))).Message, StringComparison.Ordinal);
            }

            Assert.True(a.IsHeld);
        }

        await b.Release(async);
        Assert.True(await a.Release(async));
        Assert.Equal(ConnectionState.Open, connection.State);
        Assert.False(await Server.IsHeldAsync(b.Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_that_leaves_a_reader_open_leaves_no_lock(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var connection = await OpenAsync();
        var a = NewLock(connection);
        var error = await Record.ExceptionAsync(() => a.Run(async, () =>
        {
            var command = connection.CreateCommand();
            command.CommandText = "select 1";
            command.ExecuteReader();
        }));

        // Some providers have read all there is, and then no reader is in the way.
        Assert.True(error is LockException || (error is null && ReadsAhead), $"{error}");
        Assert.Contains("Dispose every reader", error?.Message ?? "Dispose every reader", StringComparison.Ordinal);
        Assert.False(a.IsHeld);
        await Server.UntilFreeAsync(Key);
    }
}
