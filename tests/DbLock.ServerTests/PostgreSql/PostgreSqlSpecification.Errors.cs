using System.Data.Common;

namespace DbLock.ServerTests;

/// <content>After an error no lock stays.</content>
public abstract partial class PostgreSqlSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task After_an_error_in_a_transaction_that_the_lock_does_not_know_no_lock_stays(bool async)
    {
        var logger = new RecordingLogger();
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Logger = logger });
        Assert.True(await a.Try(async));
        await using var transaction = await connection.BeginTransactionAsync();
        var error = await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
        await a.HandleError(async, error);

        // PostgreSQL refuses to unlock, or ODBC to send it without its transaction. Nobody would release it again, so that its session is
        // ended.
        Assert.False(await a.Release(async));
        Assert.False(a.IsHeld);
        await Server.UntilFreeAsync(Key);
        Assert.Contains(logger.Warnings, line => line.Contains("session was ended", StringComparison.Ordinal));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_failed_transaction_cannot_say_whether_the_lock_is_held(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        Assert.True(await a.Try(async));
        await using var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        Assert.True(await a.IsHeldNow(async));
        await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
        if (Interface == LockInterface.Odbc)
        {
            // psqlODBC has rolled it back by itself.
            Assert.True(await a.IsHeldNow(async));
        }
        else
        {
            var error = await Assert.ThrowsAsync<LockException>(() => a.IsHeldNow(async));
            Assert.Contains("roll it back", error.Message, StringComparison.Ordinal);
        }

        Assert.True(a.IsHeld);
        await transaction.RollbackAsync();
        Assert.True(await a.IsHeldNow(async));
        Assert.True(await a.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_was_unlocked_by_hand_is_not_held_when_asked(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        Assert.True(await a.Try(async));
        await ExecuteAsync(connection, "select pg_advisory_unlock_all()");
        Assert.False(await a.IsHeldNow(async));
        Assert.True(a.Lost.IsCancellationRequested);
        await Assert.ThrowsAsync<LockLostException>(() => a.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_missing_right_comes_out_untouched_and_leaves_nothing(bool async)
    {
        var administrator = await OpenAsync();
        var role = "role_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(administrator, $"create role {role}");

        // The right to these functions is everybody's, so it is taken in a database of its own. (psqlODBC does not change the database of
        // a connection, nor says so.)
        var database = "refusing_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(administrator, $"create database {database}");
        await using DbConnection connection = Interface == LockInterface.Odbc
            ? await PostgreSqlTestServer.OpenOdbcAsync(database)
            : await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database}");
        await ExecuteAsync(
            connection, "revoke execute on function pg_try_advisory_lock(bigint), pg_advisory_xact_lock(bigint) from public");
        await ExecuteAsync(connection, $"set role {role}");
        var a = NewLock(connection);
        foreach (var timeout in new[] { TimeSpan.Zero, Timeout.InfiniteTimeSpan })
        {
            var error = await Assert.ThrowsAnyAsync<DbException>(() => a.Acquire(async, timeout));
            Assert.Contains("permission denied for function", error.Message, StringComparison.Ordinal);
            Assert.False(a.IsHeld);
        }

        await ExecuteAsync(connection, "reset role");
        Assert.Equal(0, await PostgreSql.CountLocksAsync(await Server.SessionIdAsync(connection)));
        Assert.True(await a.Try(async));
        Assert.True(await a.Release(async));
        await connection.CloseAsync();
        await ExecuteAsync(administrator, $"drop database {database} with (force)");
        await ExecuteAsync(administrator, $"drop role {role}");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_logger_that_fails_comes_between_nothing(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Logger = new ActingLogger(() => throw new IOException("The disk is full.")) });
        var ran = false;
        await a.Run(async, () => ran = true);
        Assert.True(ran);
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.True(await a.Try(async));
        await connection.CloseAsync();
        await Server.UntilFreeAsync(Key);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_that_fails_and_leaves_its_transaction_or_reader_open_leaves_no_lock(bool async)
    {
        var transactions = await OpenAsync();
        var a = NewLock(transactions);
        await Assert.ThrowsAsync<DivideByZeroException>(() => a.Run(async, () =>
        {
            _ = transactions.BeginTransaction();
            using var command = transactions.CreateCommand();
            command.CommandText = Server.FailingSql;
            Record.Exception(() => command.ExecuteNonQuery());
            throw new DivideByZeroException();
        }));
        Assert.False(a.IsHeld);
        await Server.UntilFreeAsync(Key);

        var readers = await OpenAsync();
        var b = NewLock(readers);
        await Assert.ThrowsAsync<DivideByZeroException>(() => b.Run(async, () =>
        {
            var command = readers.CreateCommand();
            command.CommandText = "select 1";
            _ = command.ExecuteReader();
            throw new DivideByZeroException();
        }));
        Assert.False(b.IsHeld);
        await Server.UntilFreeAsync(Key);
    }
}
