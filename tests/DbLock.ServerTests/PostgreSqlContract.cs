using System.Collections.Concurrent;
using System.Data;
using System.Data.Common;
using System.Data.Odbc;
using Npgsql;
using ThirdParty;

namespace DbLock.ServerTests;

/// <summary>What every driver does on PostgreSQL, beyond the contract that all servers share.</summary>
public abstract class PostgreSqlContract(LockInterface lockInterface) : LockContract(PostgreSqlTestServer.Instance, lockInterface)
{
    protected override bool AnErrorAbortsTheTransaction => true;

    protected override int Races => 1000;

    private static PostgreSqlTestServer PostgreSql => PostgreSqlTestServer.Instance;

    [Theory]
    [InlineData(false, LockScope.Session), InlineData(false, LockScope.Transaction), InlineData(true, LockScope.Session), InlineData(true, LockScope.Transaction)]
    public async Task A_cancel_that_meets_the_grant_in_a_transaction_leaves_it_as_the_server_has_it(bool several, LockScope scope)
    {
        var delay = TimeSpan.FromMilliseconds(3);
        await RaceAsync(async: true, several, Cancelled(delay), delay, scope);
    }

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
    public async Task After_an_error_in_a_transaction_that_the_lock_does_not_know_no_lock_stays(bool async)
    {
        var logger = new RecordingLogger();
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Logger = logger });
        Assert.True(await a.Try(async));
        await using var transaction = await connection.BeginTransactionAsync();
        var error = await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
        await a.HandleError(async, error);

        // PostgreSQL refuses to unlock, or ODBC to send it without its transaction. Nobody would release it again, so that its session is ended.
        Assert.False(await a.Release(async));
        Assert.False(a.IsHeld);
        await Server.UntilFreeAsync(Key);
        Assert.Contains(logger.Warnings, line => line.Contains("session was ended", StringComparison.Ordinal));
    }

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

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_session_is_as_before_in_and_out_of_a_transaction(bool async)
    {
        const string Residue = """
            select concat_ws('; ', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('search_path'),
              (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()))
            """;
        const string Prepared = "select count(*) || ' ' || count(distinct statement) from pg_prepared_statements";
        var (connection, other) = (await OpenAsync(), NewLock(await OpenAsync()));
        var notices = new ConcurrentQueue<string>();
        (connection as NpgsqlConnection)?.Notice += (_, told) => notices.Enqueue(told.Notice.MessageText);
        (connection as OdbcConnection)?.InfoMessage += (_, told) => notices.Enqueue(told.Message);
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        var before = await ExecuteAsync(connection, Residue);
        var session = NewLock(connection);
        var scoped = NewLock(connection, new LockOptions { Scope = LockScope.Transaction });
        object? prepared = null;
        TimeSpan[] timeouts = [TimeSpan.Zero, .. Enumerable.Range(1, 20).Select(n => TimeSpan.FromMilliseconds(n)), Timeout.InfiniteTimeSpan];
        foreach (var timeout in timeouts)
        {
            Assert.True(await session.Acquire(async, timeout));
            Assert.True(await session.Release(async));
            await using var transaction = await connection.BeginTransactionAsync();
            session.Transaction = scoped.Transaction = transaction;
            Assert.True(await session.Acquire(async, timeout));
            Assert.True(await session.Release(async));
            Assert.Equal(before, await ExecuteAsync(connection, Residue, transaction));
            await ExecuteAsync(connection, "set local lock_timeout = '3s'", transaction);
            Assert.True(await scoped.Acquire(async, timeout));
            Assert.Equal("3s", await ExecuteAsync(connection, "show lock_timeout", transaction));
            await transaction.CommitAsync();

            // One for each statement from its second use on, and none for a timeout.
            prepared = timeout == timeouts[3] ? await ExecuteAsync(connection, Prepared) : prepared;
        }

        Assert.Equal(prepared, await ExecuteAsync(connection, Prepared));
        Assert.Equal(before, await ExecuteAsync(connection, Residue));
        Assert.True(await other.Try(async));
        Assert.False(await session.Acquire(async, TimeSpan.FromMilliseconds(20)));
        Assert.Equal(before, await ExecuteAsync(connection, Residue));
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            session.Transaction = scoped.Transaction = transaction;
            Assert.False(await session.Acquire(async, TimeSpan.FromMilliseconds(20)));
            Assert.False(await scoped.Acquire(async, TimeSpan.FromMilliseconds(20)));
            Assert.Equal(before, await ExecuteAsync(connection, Residue, transaction));

            // There is no savepoint left to go back to.
            await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, "rollback to savepoint dblock_acquire", transaction));
        }

        Assert.True(await other.Release(async));
        Assert.Empty(notices);
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
            Assert.Contains("share a key", (await Assert.ThrowsAsync<LockException>(() => all.Acquire(async, ShortWait))).Message, StringComparison.Ordinal);
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
            Assert.Contains("Lock.Transaction", (await Assert.ThrowsAsync<LockException>(() => a.Acquire(async, timeout))).Message, StringComparison.Ordinal);
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
    public async Task A_missing_right_comes_out_untouched_and_leaves_nothing(bool async)
    {
        var administrator = await OpenAsync();
        var role = "role_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(administrator, $"create role {role}");

        // The right to these functions is everybody's, so it is taken in a database of its own. (psqlODBC does not change the database of a connection, nor says so.)
        var database = "refusing_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(administrator, $"create database {database}");
        await using DbConnection connection = Interface == LockInterface.Odbc
            ? await PostgreSqlTestServer.OpenOdbcAsync(database)
            : await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database}");
        await ExecuteAsync(connection, "revoke execute on function pg_try_advisory_lock(bigint), pg_advisory_xact_lock(bigint) from public");
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

    [Fact]
    public async Task Each_interface_keeps_its_own_dialect_on_a_connection()
    {
        var connection = await OpenAsync();
        if (connection is not NpgsqlConnection)
        {
            return;
        }

        var (ours, theirs) = (NewLock(connection), new Lock(connection, Key, LockInterface.Plain));
        Assert.True(await ours.AcquireAsync(block: false));
        Assert.False(await HashTextTestServer.Instance.IsHeldAsync(Key));
        Assert.True(await theirs.AcquireAsync(block: false));
        Assert.True(await HashTextTestServer.Instance.IsHeldAsync(Key));
        Assert.True(await ours.ReleaseAsync());
        Assert.True(await HashTextTestServer.Instance.IsHeldAsync(Key));
        Assert.True(await theirs.ReleaseAsync());
    }

    [Fact]
    public async Task A_connection_of_a_data_source_does_not_go_back_with_a_lock()
    {
        if (Interface == LockInterface.Odbc)
        {
            return;
        }

        await using var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        foreach (var dispose in new[] { false, true })
        {
            var connection = await source.OpenConnectionAsync();
            Assert.True(await NewLock(connection).AcquireAsync());
            await (dispose ? connection.DisposeAsync().AsTask() : connection.CloseAsync());
            await Server.UntilFreeAsync(Key);
        }
    }

    [Fact]
    public async Task A_command_that_fails_after_the_answer_is_not_swallowed()
    {
        var statement = new LockStatement(new LockCommand(new LockSql("select 1")), new LockCommand(new LockSql("select pg_sleep(600)"))) { Wait = Timeout.InfiniteTimeSpan };
        var connection = await OpenAsync();
        var session = await Server.SessionIdAsync(connection);
        var running = Interface.Driver.Execute(connection, null, statement, async: true, CancellationToken.None).AsTask();
        await TestServer.UntilAsync(() => PostgreSql.IsRunningAsync(session, "pg_sleep(600)"), "the second command runs");
        await PostgreSql.CancelAsync(session);
        Assert.Equal("57014", Interface.Driver.Read(await Assert.ThrowsAnyAsync<Exception>(() => running)).SqlState);
    }

    [Fact]
    public async Task Keys_are_what_pg_locks_shows()
    {
        var connection = await OpenAsync();
        foreach (var key in new LockKey[] { Key, long.MinValue + 77, -1234567890123L, (-5, 7), (int.MinValue, -1) })
        {
            var a = NewLock(connection, key: key);
            Assert.True(await a.AcquireAsync());
            Assert.True(await Server.IsHeldByAsync(await Server.SessionIdAsync(connection), key));
            Assert.True(await a.ReleaseAsync());
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_method_is_run_under_a_lock_of_its_own_name(bool async)
    {
        const string Name = "DbLock.ServerTests.PostgreSqlContract.Job.Report";
        var (connection, second) = (await OpenAsync(), await OpenAsync());
        var job = new Job(() => Server.IsHeldAsync(Name));
        Assert.False(await Server.IsHeldAsync(Name) && job.Ran);
        if (async)
        {
            await connection.RunLockedAsync(job.ReportAsync, Name, lockInterface: Interface);
            Assert.Equal(7, await connection.RunLockedAsync(_ => Task.FromResult(7), Name, lockInterface: Interface));
        }
        else
        {
            connection.RunLocked(job.Report, lockInterface: Interface);
            Assert.Equal(7, connection.RunLocked(() => 7, Name, lockInterface: Interface));
        }

        Assert.True(job.Ran);
        var holder = NewLock(second, key: Name);
        Assert.True(await holder.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.Throws<LockNotAcquiredException>(() => connection.RunLocked(job.Report, timeout: ShortWait, lockInterface: Interface));
        Assert.False(connection.TryRunLocked(job.Report, lockInterface: Interface));
        Assert.False(await connection.TryRunLockedAsync(job.ReportAsync, Name, lockInterface: Interface));
        Assert.True(await holder.Release(async));
    }

    private sealed class Job(Func<Task<bool>> isHeld)
    {
        public bool Ran { get; private set; }

        public void Report()
        {
            Assert.True(isHeld().GetAwaiter().GetResult());
            Ran = true;
        }

        public async Task ReportAsync(CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Assert.True(await isHeld());
            Ran = true;
        }
    }
}
