using System.Data.Common;
using Npgsql;

namespace DbLock.ServerTests;

/// <content>Prepared statements that somebody deallocates.</content>
public abstract partial class PostgreSqlSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task A_transaction_survives_that_somebody_has_deallocated_what_was_prepared(bool async)
    {
        var connection = await OpenAsync();
        var scoped = NewLock(connection, new LockOptions { Scope = LockScope.Transaction });
        foreach (var deallocation in new[] { "discard all", "deallocate all" })
        {
            // A try and a wait, so often that all are prepared that ever will be.
            var session = NewLock(connection);
            foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(5), Timeout.InfiniteTimeSpan })
            {
                for (var use = 0; use < 4; use++)
                {
                    Assert.True(await session.Acquire(async, timeout));
                    Assert.True(await session.Release(async));
                    await InTransactionAsync(timeout, null);
                }

                await InTransactionAsync(timeout, deallocation);
            }
        }

        async Task InTransactionAsync(TimeSpan timeout, string? deallocation)
        {
            var session = NewLock(connection);
            if (deallocation is not null)
            {
                await ExecuteAsync(connection, deallocation);
            }

            await using var transaction = await connection.BeginTransactionAsync();
            session.Transaction = scoped.Transaction = transaction;
            await ExecuteAsync(connection, "set local work_mem = '1MB'", transaction);
            Assert.True(await session.Acquire(async, timeout));
            Assert.True(await session.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));
            Assert.True(await scoped.Acquire(async, timeout));
            Assert.Equal("1MB", await ExecuteAsync(connection, "show work_mem", transaction));
            await transaction.CommitAsync();
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Prepared_statements_that_somebody_deallocates_are_no_hindrance(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        for (var round = 0; round < 3; round++)
        {
            for (var use = 0; use < 4; use++)
            {
                Assert.True(await a.Acquire(async, use % 2 == 0 ? TimeSpan.Zero : ShortWait));
                Assert.True(await Server.IsHeldAsync(Key));
                Assert.True(await a.Release(async));
            }

            Assert.True(await a.Try(async));
            await ExecuteAsync(connection, "deallocate all");
            Assert.True(await a.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));

            // With its locks, this time.
            Assert.True(await a.Try(async));
            await ExecuteAsync(connection, "discard all");
            await Assert.ThrowsAsync<LockLostException>(() => a.Release(async));

            // In a transaction the error costs the transaction, once.
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            var error = await Record.ExceptionAsync(() => a.Try(async));
            Assert.True(error is null or DbException { SqlState: "26000" }, $"{error}");
            await transaction.RollbackAsync();
            a.Transaction = null;
            Assert.Equal(error is null, await a.Release(async));

            // Outside of one it is mended, for whoever has this session next from the pool, too.
            Assert.True(await a.Try(async));
            Assert.True(await a.Release(async));
            if (connection is NpgsqlConnection)
            {
                await connection.CloseAsync();
                await connection.OpenAsync();
            }
        }
    }
}
