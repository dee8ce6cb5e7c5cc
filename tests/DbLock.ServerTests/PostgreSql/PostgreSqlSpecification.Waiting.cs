using System.Data;

namespace DbLock.ServerTests;

/// <content>Waits and releases that a cancel or a setting ends.</content>
public abstract partial class PostgreSqlSpecification
{
    [Theory]
    [InlineData(false, LockScope.Session), InlineData(false, LockScope.Transaction)]
    [InlineData(true, LockScope.Session), InlineData(true, LockScope.Transaction)]
    public async Task A_cancel_that_meets_the_grant_in_a_transaction_leaves_it_as_the_server_has_it(bool several, LockScope scope)
    {
        var delay = TimeSpan.FromMilliseconds(3);
        await RaceAsync(async: true, several, Cancelled(delay), delay, scope);
    }

    [Fact]
    public async Task A_cancel_before_anything_is_sent_costs_the_transaction_nothing()
    {
        var connection = await OpenAsync();
        var session = await Server.SessionIdAsync(connection);
        using var cancel = new CancellationTokenSource();

        // The warning of the old snapshot comes after the token was looked at and before the statement is sent.
        var a = NewLock(connection, new LockOptions { Logger = new ActingLogger(cancel.Cancel) });
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead);
        await ExecuteAsync(connection, "create temporary table mine (n int) on commit drop", transaction);
        a.Transaction = transaction;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => a.AcquireAsync(cancel.Token).AsTask());
        Assert.False(a.IsHeld);
        Assert.Equal(0L, await ExecuteAsync(connection, "select count(*) from mine", transaction));
        await transaction.CommitAsync();
        Assert.Equal(session, await Server.SessionIdAsync(connection));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_statement_timeout_that_ends_a_wait_is_told_apart(bool async)
    {
        // psqlODBC sends a statement_timeout of its own before a wait, so a session has none to keep there.
        if (Interface == LockInterface.Odbc)
        {
            return;
        }

        var (connection, other) = (await OpenAsync(), NewLock(await OpenAsync()));
        var a = NewLock(connection);
        Assert.True(await other.Try(async));
        await ExecuteAsync(connection, "set statement_timeout = '50ms'");
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => a.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.Contains("statement_timeout", error.Message, StringComparison.Ordinal);
        Assert.NotNull(error.InnerException);
        Assert.True(await other.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_wait_that_somebody_else_cancelled_is_told_apart(bool async)
    {
        var (connection, other) = (await OpenAsync(), NewLock(await OpenAsync()));
        var (a, session) = (NewLock(connection), await Server.SessionIdAsync(connection));
        Assert.True(await other.Try(async));
        var waiting = a.Start(async, Timeout.InfiniteTimeSpan);
        await Server.UntilWaitingAsync(session);
        await PostgreSql.CancelAsync(session);
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => waiting);
        Assert.Contains("administrator's cancel", error.Message, StringComparison.Ordinal);
        Assert.True(await other.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_release_that_a_cancel_hits_lets_go(bool async)
    {
        var connection = await OpenAsync();
        var session = await Server.SessionIdAsync(connection);
        var a = NewLock(connection);
        for (var round = 0; round < 200; round++)
        {
            Assert.True(await a.Try(async));
            var cancel = PostgreSql.CancelAsync(session);
            Thread.SpinWait(500 * (round % 40));
            Assert.True(await a.Release(async));
            await cancel;
            await Record.ExceptionAsync(() => Server.SessionIdAsync(connection));
            Assert.False(await Server.IsHeldAsync(Key));
        }
    }

    [Fact]
    public async Task An_index_is_made_concurrently_beside_a_wait_that_yields_and_not_beside_one_that_queues()
    {
        var table = $"yielding_{Guid.NewGuid():N}";
        await using var builder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false;Command Timeout=60");
        await builder.ExecuteAsync($"create table {table} (n int)");
        var holder = NewLock(await OpenAsync());
        Assert.True(await holder.AcquireAsync());
        foreach (var wait in new[] { LockWait.Yielding, LockWait.Queue })
        {
            var connection = await OpenAsync();
            var session = await Server.SessionIdAsync(connection);
            var waiting = NewLock(connection, new LockOptions { Wait = wait }).Start(async: true, Timeout.InfiniteTimeSpan);
            await Server.UntilWaitingAsync(session);
            var making = builder.ExecuteAsync($"create index concurrently on {table} (n)");
            if (wait == LockWait.Queue)
            {
                await Server.UntilWaitingAsync(builder.ProcessID);
            }
            else
            {
                await making;
            }

            Assert.False(waiting.IsCompleted);
            Assert.True(await holder.ReleaseAsync());
            Assert.True(await waiting);
            await making;
            await connection.CloseAsync();
            Assert.True(await holder.AcquireAsync());
        }

        await builder.ExecuteAsync($"drop table {table}");
    }

    [Fact]
    public async Task A_command_that_fails_after_the_answer_is_not_swallowed()
    {
        LockCommand[] commands = [new(new LockSql("select 1")), new(new LockSql("select pg_sleep(600)"))];
        var statement = new LockStatement(commands) { Wait = Timeout.InfiniteTimeSpan };
        var connection = await OpenAsync();
        var session = await Server.SessionIdAsync(connection);
        var running = Interface.Driver.Execute(connection, null, statement, async: true, CancellationToken.None).AsTask();
        await TestServer.UntilAsync(() => PostgreSql.IsRunningAsync(session, "pg_sleep(600)"), "the second command runs");
        await PostgreSql.CancelAsync(session);
        Assert.Equal("57014", Interface.Driver.Read(await Assert.ThrowsAnyAsync<Exception>(() => running)).SqlState);
    }
}
