using System.Collections.Concurrent;
using System.Data;
using System.Diagnostics;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Locks on tables. Each test has a schema of its own, on the search_path.</summary>
public sealed class TableLockTests : IAsyncLifetime
{
    private static readonly TimeSpan ShortWait = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan[] Waits = [TimeSpan.Zero, TimeSpan.FromMinutes(5), Timeout.InfiniteTimeSpan];

    private readonly string _schema = "tables_" + Guid.NewGuid().ToString("N");
    private readonly List<NpgsqlConnection> _opened = [];

    public static TheoryData<string> OddNames =>
    [
        "Capitals", "with space", "dot.dot", "quo\"te", "\"", "semi;colon", "{0}", "{braces}", ":colon", "@at", "$1", "?", "back\\slash", "it's", "--comment", "/*", "größe_表_🔒", "only", "select", " ",
    ];

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    public async ValueTask InitializeAsync()
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, $"create schema {_schema}");
        await ExecuteAsync(connection, "create table a (n int); create table b (n int); create table mine (n int)");
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var connection in _opened)
        {
            await connection.DisposeAsync();
        }

        await using var last = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await ExecuteAsync(last, $"drop schema {_schema} cascade");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Held_elsewhere_is_false_and_the_transaction_is_as_before(bool async)
    {
        const string Residue = """
            select concat_ws('; ', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('search_path'),
              (select count(*) from pg_prepared_statements), (select string_agg(mode, ',') from pg_locks where pid = pg_backend_pid() and locktype <> 'virtualxid'))
            """;
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        var notices = Notices(connection);
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table b in access share mode");
        foreach (var (session, local) in new[] { ("0", null), ("7s", null), ("7s", "3s"), ("0", "1500ms") })
        {
            await ExecuteAsync(connection, $"set lock_timeout = '{session}'");
            foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromTicks(1), ShortWait })
            {
                foreach (TableName[] tables in new TableName[][] { ["b"], ["a", "b"], ["b", (_schema, "a"), "a"] })
                {
                    await using var transaction = await connection.BeginTransactionAsync();
                    await ExecuteAsync(connection, "insert into mine values (1)");
                    if (local is not null)
                    {
                        await ExecuteAsync(connection, $"set local lock_timeout = '{local}'");
                    }

                    var before = await ExecuteAsync(connection, Residue);
                    Assert.False(await Acquire(connection.CreateTableLock(PgLockMode.AccessExclusive, tables), async, timeout));
                    Assert.Equal(before, await ExecuteAsync(connection, Residue));
                    Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.RowShare, tables), async, timeout));
                    Assert.Equal(local ?? session, await ExecuteAsync(connection, "show lock_timeout"));
                    Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
                    await AssertNoSavepointAsync(connection);
                    await transaction.RollbackAsync();
                    Assert.Equal(session, await ExecuteAsync(connection, "show lock_timeout"));
                }
            }
        }

        Assert.Empty(notices);
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    public async Task A_wait_is_granted_when_the_holder_commits(bool async, bool several)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        var notices = Notices(connection);
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        foreach (var timeout in Waits.Skip(1))
        {
            await using var held = await holder.BeginTransactionAsync();
            await ExecuteAsync(holder, "lock table b in share mode");
            await using var transaction = await connection.BeginTransactionAsync();
            await ExecuteAsync(connection, "set local lock_timeout = '3s'");
            var waiting = Start(connection.CreateTableLock(PgLockMode.RowExclusive, several ? ["b", "a"] : ["b"]), async, timeout);
            await Server.UntilWaitingAsync(await SessionAsync(connection));
            Assert.False(waiting.IsCompleted);
            await held.CommitAsync();
            Assert.True(await waiting);
            Assert.Equal(several ? "a RowExclusiveLock, b RowExclusiveLock" : "b RowExclusiveLock", await LocksAsync(connection));
            Assert.Equal("3s", await ExecuteAsync(connection, "show lock_timeout"));
            await AssertNoSavepointAsync(connection);
            await transaction.RollbackAsync();
            Assert.Equal("7s", await ExecuteAsync(connection, "show lock_timeout"));
            Assert.Equal("", await LocksAsync(connection));
        }

        Assert.Empty(notices);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_the_transaction_commits_of_lock_timeout_is_its_own(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            await ExecuteAsync(connection, "set local lock_timeout = '3s'");
            Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, "a", "b"), async, ShortWait));
            await transaction.CommitAsync();
        }

        Assert.Equal("7s", await ExecuteAsync(connection, "show lock_timeout"));
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            await ExecuteAsync(connection, "set lock_timeout = '4s'");
            Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, "a"), async, ShortWait));
            await transaction.CommitAsync();
        }

        Assert.Equal("4s", await ExecuteAsync(connection, "show lock_timeout"));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Each_mode_is_the_servers(bool async)
    {
        foreach (var mode in Enum.GetValues<PgLockMode>().Where(mode => mode != PgLockMode.SIRead))
        {
            foreach (var timeout in Waits)
            {
                var connection = await OpenAsync();
                await using var transaction = await connection.BeginTransactionAsync();
                Assert.True(await Acquire(connection.CreateTableLock(mode, "a"), async, timeout));
                Assert.True(await Acquire(connection.CreateTableLock(mode, "a", "b"), async, timeout));
                Assert.Equal($"a {mode}Lock, b {mode}Lock", await LocksAsync(connection));
                await transaction.CommitAsync();
                Assert.Equal("", await LocksAsync(connection));
            }
        }
    }

    [Fact]
    public async Task What_cannot_be_locked_is_refused_at_once()
    {
        var connection = await OpenAsync();
        Assert.Throws<ArgumentOutOfRangeException>(() => connection.CreateTableLock(PgLockMode.SIRead, "a"));
        Assert.Throws<ArgumentOutOfRangeException>(() => connection.CreateTableLock(default, "a"));
        Assert.Throws<ArgumentOutOfRangeException>(() => new TableLock(connection, (PgLockMode)10, "a"));
        Assert.Throws<ArgumentException>(() => connection.CreateTableLock(PgLockMode.Share));
        Assert.Throws<ArgumentException>(() => connection.CreateTableLock(PgLockMode.Share, new List<TableName>()));
        Assert.Throws<ArgumentException>(() => connection.CreateTableLock(PgLockMode.Share, "a", null!));
        var a = connection.CreateTableLock(PgLockMode.Share, "a");
        foreach (var timeout in new[] { TimeSpan.FromTicks(-1), TimeSpan.FromMilliseconds(int.MaxValue) + TimeSpan.FromTicks(1), TimeSpan.MaxValue })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => a.Acquire(timeout));
        }

        await using (var transaction = await connection.BeginTransactionAsync())
        {
            Assert.True(a.Acquire(TimeSpan.FromMilliseconds(int.MaxValue)));
        }

        await connection.CloseAsync();
        Assert.Contains("open it", (await Assert.ThrowsAsync<InvalidOperationException>(() => a.AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Outside_a_transaction_it_is_refused_and_nothing_changes(bool async)
    {
        var connection = await OpenAsync();
        var notices = Notices(connection);
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        foreach (var timeout in Waits)
        {
            foreach (TableName[] tables in new TableName[][] { ["a"], ["a", "b"] })
            {
                var error = await Assert.ThrowsAsync<InvalidOperationException>(() => Acquire(connection.CreateTableLock(PgLockMode.Share, tables), async, timeout));
                Assert.Contains("begin a transaction", error.Message, StringComparison.Ordinal);
                Assert.Equal("7s", await ExecuteAsync(connection, "show lock_timeout"));
                Assert.Equal("", await LocksAsync(connection));
            }
        }

        await ExecuteAsync(connection, "begin");
        Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, "a"), async, ShortWait));
        Assert.Equal("a ShareLock", await LocksAsync(connection));
        await ExecuteAsync(connection, "commit");
        Assert.Empty(notices);
    }

    [Theory, MemberData(nameof(OddNames))]
    public async Task A_name_is_what_the_table_is_called(string name)
    {
        var connection = await OpenAsync();
        var schema = $"{_schema}.{name}";
        var quoted = new TableName(schema, name).ToString();
        await ExecuteAsync(connection, $"create schema {new TableName(schema)}; create table {quoted} (n int); create table {new TableName(name)} (n int)");
        var (here, there) = (await OidAsync(new TableName(name)), await OidAsync(quoted));
        foreach (var timeout in Waits)
        {
            foreach (var (table, oid) in new (TableName, string)[] { (new TableName(name), here), ((schema, name), there), (TableName.Parse(quoted), there) })
            {
                await using var transaction = await connection.BeginTransactionAsync();
                Assert.True(await connection.CreateTableLock(PgLockMode.Share, table).AcquireAsync(timeout));
                Assert.Equal(oid, await LockedOidsAsync());
                Assert.True(await connection.CreateTableLock(PgLockMode.Share, table, table).AcquireAsync(timeout));
                Assert.Equal(oid, await LockedOidsAsync());
            }
        }

        await ExecuteAsync(connection, $"drop schema {new TableName(schema)} cascade");

        async Task<string> OidAsync(object table) => (await ExecuteAsync(connection, $"select '{table.ToString()!.Replace("'", "''", StringComparison.Ordinal)}'::regclass::oid::text")).ToString()!;

        async Task<object?> LockedOidsAsync() =>
            await ExecuteAsync(connection, "select string_agg(relation::text, ',') from pg_locks where pid = pg_backend_pid() and mode = 'ShareLock' and locktype = 'relation'");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Only_leaves_out_what_inherits(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "create table p (n int) partition by list (n); create table p1 partition of p for values in (1); create table heir () inherits (a)");
        foreach (var timeout in Waits)
        {
            foreach (var (tables, locked) in new (TableName[], string)[]
            {
                (["p"], "p, p1"),
                ([new("p") { Only = true }], "p"),
                (["p", "a"], "a, heir, p, p1"),
                (["p", new("a") { Only = true }], "a, p, p1"),
                ([new("p") { Only = true }, new("a") { Only = true }], "a, p"),
                ([new("p") { Only = true }, "p1"], "p, p1"),
                ([new("p") { Only = true }, "p"], "p, p1"),
            })
            {
                await using var transaction = await connection.BeginTransactionAsync();
                Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, tables), async, timeout));
                Assert.Equal(locked, ((string)await LocksAsync(connection)).Replace(" ShareLock", "", StringComparison.Ordinal));
            }
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_missing_table_is_the_servers_error_and_costs_nothing(bool async)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table a in access exclusive mode");
        await using var transaction = await connection.BeginTransactionAsync();
        await ExecuteAsync(connection, "insert into mine values (1)");
        foreach (var timeout in Waits)
        {
            // It is told before anything is waited for.
            foreach (TableName[] tables in new TableName[][] { ["missing"], ["a", "missing"], ["a", "missing.a"] })
            {
                var error = await Assert.ThrowsAsync<PostgresException>(() => Acquire(connection.CreateTableLock(PgLockMode.Share, tables), async, timeout));
                Assert.Equal(tables[^1].Schema is null ? "42P01" : "3F000", error.SqlState);
            }
        }

        Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
        await AssertNoSavepointAsync(connection);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_missing_right_comes_out_untouched_and_costs_nothing(bool async)
    {
        var connection = await OpenAsync();
        var role = _schema;
        await ExecuteAsync(connection, $"""
            create role {role}; grant usage on schema {_schema} to {role}; grant select, insert on mine to {role};
            create table p (n int) partition by list (n); create table p1 partition of p for values in (1); create schema "{_schema} closed";
            create table "{_schema} closed".p2 partition of p for values in (2); grant update on p to {role}; grant select, update on a to {role}; set role {role}
            """);
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            await ExecuteAsync(connection, "insert into mine values (1)");
            foreach (var timeout in Waits)
            {
                foreach (TableName[] tables in new TableName[][] { ["b"], ["a", "b"], ["p", "b"], ["p1"], ["p1", "a"] })
                {
                    var error = await Assert.ThrowsAsync<PostgresException>(() => Acquire(connection.CreateTableLock(PgLockMode.Share, tables), async, timeout));
                    Assert.Equal("42501", error.SqlState);
                }

                // The right to lock a table is one to lock its partitions with it.
                Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, "p", "a"), async, timeout));
                Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
                await AssertNoSavepointAsync(connection);
            }

            Assert.EndsWith("p ShareLock, p1 ShareLock, p2 ShareLock", (string)await LocksAsync(connection), StringComparison.Ordinal);
        }

        await ExecuteAsync(connection, $"reset role; drop owned by {role}; drop role {role}; drop schema \"{_schema} closed\" cascade");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_cancelled_wait_leaves_the_transaction_as_before(bool several)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table b in share mode");
        await using var transaction = await connection.BeginTransactionAsync();
        await ExecuteAsync(connection, "insert into mine values (1); set local lock_timeout = '3s'");
        foreach (var timeout in Waits.Skip(1))
        {
            using var cancel = new CancellationTokenSource();
            var waiting = Start(connection.CreateTableLock(PgLockMode.Exclusive, several ? ["a", "b"] : ["b"]), async: true, timeout, cancel.Token);
            await Server.UntilWaitingAsync(await SessionAsync(connection));
            await cancel.CancelAsync();
            Assert.Equal(cancel.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting)).CancellationToken);
            Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
            Assert.Equal("3s", await ExecuteAsync(connection, "show lock_timeout"));
            Assert.DoesNotContain(" ExclusiveLock", (string)await LocksAsync(connection), StringComparison.Ordinal);
            await AssertNoSavepointAsync(connection);
        }

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connection.CreateTableLock(PgLockMode.Share, "a").AcquireAsync(new CancellationToken(true)).AsTask());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_cancel_at_any_moment_costs_the_transaction_nothing_and_the_answer_is_true(bool held)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await using var holding = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, held ? "lock table b in share mode" : "select 1");
        var (granted, cancelled) = (0, 0);
        for (var round = 0; round < 300; round++)
        {
            await using var transaction = await connection.BeginTransactionAsync();
            await ExecuteAsync(connection, "insert into mine values (1)");
            using var cancel = new CancellationTokenSource();
            var acquiring = connection.CreateTableLock(PgLockMode.Exclusive, round % 2 == 0 ? ["b"] : ["a", "b"]).AcquireAsync(cancel.Token).AsTask();
            Thread.SpinWait(400 * (round % 60));
            await cancel.CancelAsync();
            var error = await Record.ExceptionAsync(() => acquiring);
            Assert.True(error is null or OperationCanceledException, error?.ToString());
            _ = error is null ? granted++ : cancelled++;
            if (connection.State != ConnectionState.Open)
            {
                // Npgsql's cancel came before the statement and was lost, and the connection was given up after a second.
                Assert.True(held && error is { InnerException: TimeoutException }, error?.ToString());
                await connection.OpenAsync();
                continue;
            }

            Assert.Equal(error is null, ((string)await LocksAsync(connection)).Contains("b ExclusiveLock", StringComparison.Ordinal));
            Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
        }

        Assert.True(held ? granted == 0 : cancelled > 0, $"{granted} granted, {cancelled} cancelled");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_wait_that_the_server_ended_is_told_apart(bool async)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table b in share mode");
        await using var transaction = await connection.BeginTransactionAsync();
        await ExecuteAsync(connection, "insert into mine values (1)");
        var b = connection.CreateTableLock(PgLockMode.Exclusive, "b");
        var session = await SessionAsync(connection);
        foreach (var timeout in Waits.Skip(1))
        {
            var waiting = Start(b, async, timeout);
            await Server.UntilWaitingAsync(session);
            await Server.CancelAsync(session);
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => waiting);
            Assert.Contains("administrator's cancel", error.Message, StringComparison.Ordinal);
            Assert.NotNull(error.InnerException);
        }

        await ExecuteAsync(connection, "set local statement_timeout = '50ms'");
        Assert.Contains("statement_timeout", (await Assert.ThrowsAsync<LockNotAcquiredException>(() => Acquire(b, async, Waits[1]))).Message, StringComparison.Ordinal);
        Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
        await AssertNoSavepointAsync(connection);
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(true, true)]
    public async Task All_tables_and_partitions_share_the_timeout(bool async, bool partitions)
    {
        var (connection, first, second) = (await OpenAsync(), await OpenAsync(), await OpenAsync());
        await ExecuteAsync(first, "create table parent (n int); create table child () inherits (parent)");
        await using var holding = await first.BeginTransactionAsync();
        await using var last = await second.BeginTransactionAsync();
        await ExecuteAsync(first, partitions ? "lock table only parent in exclusive mode" : "lock table a in exclusive mode");
        await ExecuteAsync(second, partitions ? "lock table child in exclusive mode" : "lock table b in exclusive mode");
        await using var transaction = await connection.BeginTransactionAsync();
        await ExecuteAsync(connection, "insert into mine values (1)");
        var timeout = TimeSpan.FromSeconds(3);
        var start = Stopwatch.GetTimestamp();
        var waiting = Start(connection.CreateTableLock(PgLockMode.Exclusive, partitions ? ["parent"] : ["a", "b"]), async, timeout);
        await Server.UntilWaitingAsync(connection.ProcessID);

        // The first table is let go when most of the time is over; the second must not have all of it anew.
        await Task.Delay(timeout - TimeSpan.FromSeconds(0.5) - Stopwatch.GetElapsedTime(start));
        await holding.RollbackAsync();
        Assert.False(await waiting);
        Assert.InRange(Stopwatch.GetElapsedTime(start), timeout, timeout + TimeSpan.FromSeconds(2));
        Assert.Equal("0 0 1", await ExecuteAsync(connection, "select concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'), (select count(*) from mine))"));
        Assert.DoesNotContain(" ExclusiveLock", (string)await LocksAsync(connection), StringComparison.Ordinal);
        await AssertNoSavepointAsync(connection);
    }

    [Theory, InlineData("40ms"), InlineData("1s"), InlineData("90s"), InlineData("6min"), InlineData("25h"), InlineData("2d")]
    public async Task A_statement_timeout_of_the_callers_stays_and_ends_the_wait_where_it_is_shorter(string own)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table b in share mode");
        await using var transaction = await connection.BeginTransactionAsync();
        await ExecuteAsync(connection, $"set local statement_timeout = '{own}'");
        var b = connection.CreateTableLock(PgLockMode.Exclusive, "b");
        Assert.Equal(own != "40ms", await Record.ExceptionAsync(async () => Assert.False(await b.AcquireAsync(TimeSpan.FromMilliseconds(200)))) is null);
        Assert.True(await connection.CreateTableLock(PgLockMode.Exclusive, "a").AcquireAsync(Waits[1]));
        Assert.Equal(TimeSpan.Zero, await ExecuteAsync(connection, $"select current_setting('statement_timeout')::interval - '{own}'::interval"));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_deadlock_is_told_apart_and_leaves_the_transaction_usable(bool async)
    {
        var (one, two) = (await OpenAsync(), await OpenAsync());
        await using var first = await one.BeginTransactionAsync();
        await using var second = await two.BeginTransactionAsync();
        await ExecuteAsync(one, "insert into mine values (1); set local deadlock_timeout = '1min'");
        await ExecuteAsync(two, "insert into mine values (1); set local deadlock_timeout = '10ms'");
        Assert.True(await Acquire(one.CreateTableLock(PgLockMode.Exclusive, "a"), async, Waits[1]));
        Assert.True(await Acquire(two.CreateTableLock(PgLockMode.Exclusive, "b"), async, Waits[1]));
        var survivor = Start(one.CreateTableLock(PgLockMode.Exclusive, "b"), async, Waits[1]);
        await Server.UntilWaitingAsync(await SessionAsync(one));
        var error = await Assert.ThrowsAsync<LockDeadlockException>(() => Acquire(two.CreateTableLock(PgLockMode.Exclusive, "a"), async, Waits[1]));
        Assert.Contains("roll it back", error.Message, StringComparison.Ordinal);
        Assert.Equal(1L, await ExecuteAsync(two, "select count(*) from mine"));
        Assert.Equal("b ExclusiveLock", ((string)await LocksAsync(two)).Split(", ").Single(held => held.EndsWith(" ExclusiveLock", StringComparison.Ordinal)));
        Assert.False(survivor.IsCompleted);
        await second.RollbackAsync();
        Assert.True(await survivor);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_ends_during_the_wait_is_never_false(bool async)
    {
        var holder = await OpenAsync();
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table b in share mode");
        foreach (var timeout in Waits.Skip(1))
        {
            var connection = await OpenAsync("Pooling=false");
            var transaction = await connection.BeginTransactionAsync();
            var session = await SessionAsync(connection);
            var waiting = Start(connection.CreateTableLock(PgLockMode.Exclusive, "a", "b"), async, timeout);
            await Server.UntilWaitingAsync(session);
            await Server.KillAsync(session);
            Assert.Equal("57P01", (await Assert.ThrowsAnyAsync<NpgsqlException>(() => waiting)).SqlState);
            Assert.NotEqual(ConnectionState.Open, connection.State);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_failed_transaction_and_the_callers_savepoints_stay_the_callers(bool async)
    {
        var connection = await OpenAsync();
        foreach (var timeout in Waits)
        {
            foreach (TableName[] tables in new TableName[][] { ["a"], ["a", "b"] })
            {
                await using var transaction = await connection.BeginTransactionAsync();

                // A savepoint by the name that ours has.
                await ExecuteAsync(connection, "savepoint dblock_table; insert into mine values (1); savepoint later");
                await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(connection, Server.FailingSql));
                var a = connection.CreateTableLock(PgLockMode.Share, tables);
                Assert.Equal("25P02", (await Assert.ThrowsAsync<PostgresException>(() => Acquire(a, async, timeout))).SqlState);
                await ExecuteAsync(connection, "rollback to savepoint later");
                Assert.True(await Acquire(a, async, timeout));
                Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from mine"));
                await ExecuteAsync(connection, "rollback to savepoint dblock_table");
                Assert.Equal("", await LocksAsync(connection));
                Assert.Equal(0L, await ExecuteAsync(connection, "select count(*) from mine"));
            }
        }
    }

    [Fact]
    public async Task A_busy_connection_is_told_and_costs_nothing()
    {
        var connection = await OpenAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await using (var command = new NpgsqlCommand("select 1", connection))
        await using (await command.ExecuteReaderAsync())
        {
            foreach (var timeout in Waits)
            {
                await Assert.ThrowsAsync<NpgsqlOperationInProgressException>(() => connection.CreateTableLock(PgLockMode.Share, "a").AcquireAsync(timeout).AsTask());
            }
        }

        Assert.True(await connection.CreateTableLock(PgLockMode.Share, "a").AcquireAsync());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task One_table_takes_no_snapshot_before_the_wait(bool async)
    {
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await using var held = await holder.BeginTransactionAsync();
        await ExecuteAsync(holder, "lock table b in exclusive mode");
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead);
        Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, "a"), async, TimeSpan.Zero));
        var waiting = Start(connection.CreateTableLock(PgLockMode.Share, "b"), async, Waits[1]);
        await UntilOneWaitsAsync();
        await ExecuteAsync(holder, "insert into b values (1)");
        await held.CommitAsync();
        Assert.True(await waiting);
        Assert.Equal(1L, await ExecuteAsync(connection, "select count(*) from b"));

        // Asking for its session would take the snapshot.
        async Task UntilOneWaitsAsync()
        {
            var session = connection.ProcessID;
            await Server.UntilWaitingAsync(session);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task It_costs_one_or_two_round_trips(bool async)
    {
        var counter = new RoundTrips();
        await using var source = new NpgsqlDataSourceBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString + $";Search Path={_schema}").UseLoggerFactory(counter).Build();
        await using var connection = await source.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        foreach (var (tables, timeout, roundTrips) in new (TableName[], TimeSpan, int)[]
        {
            (["a"], TimeSpan.Zero, 1), (["a"], ShortWait, 2), (["a", "b"], TimeSpan.Zero, 2), (["a", "b"], Timeout.InfiniteTimeSpan, 2),
        })
        {
            counter.Count = 0;
            Assert.True(await Acquire(connection.CreateTableLock(PgLockMode.Share, tables), async, timeout));
            Assert.Equal(roundTrips, counter.Count);
        }
    }

    // Two callers and every way to hold them up: a gate holds one table until both wait, so that each has what it locks before that.
    [Theory, InlineData(false), InlineData(true)]
    public async Task Whatever_the_order_and_spelling_two_callers_do_not_deadlock(bool textually)
    {
        await ExecuteAsync(_opened[0], """
            create table q2 (n int);
            create table q1 (n int);
            create table p1 (n int, m int) partition by list (m);
            create table p2 (n int, m int) partition by list (m);
            create table p2a partition of p2 for values in (1);
            create table p1a partition of p1 for values in (1);
            create table q (n int) partition by list (n);
            create table p (n int, m int) partition by list (n);
            alter table p attach partition p1 for values in (1);
            alter table p attach partition p2 for values in (2);
            alter table q attach partition q1 for values in (1);
            alter table q attach partition q2 for values in (2);
            create table x (k int);
            create table y (l int);
            create table xy () inherits (y, x)
            """);
        (string[] Gates, string[][] Sets)[] families =
        [
            (["a", "b"], [["a", "b"], ["b", "S.a"], ["S.b", "a", "S.a"]]),
            (
                ["p", "p1", "p2", "p1a", "p2a", "q", "q1", "q2"],
                [["p"], ["q", "p"], ["p", "q"], ["q2", "p"], ["q2", "q1"], ["p1", "q"], ["p2", "p1"], ["p1", "p2"], ["p1a", "p2"], ["p2a", "p1"], ["p2a", "p1a"], ["q"], ["q1", "q"]]
            ),
            (["x", "y", "xy"], [["x"], ["y"], ["xy", "x"], ["xy", "y"], ["x", "y"]]),
        ];
        var connections = (await OpenAsync(), await OpenAsync(), await OpenAsync());
        foreach (var (gates, sets) in families)
        {
            var deadlocks = 0;
            foreach (var (one, other) in sets.SelectMany(one => sets.Select(other => (one, other))))
            {
                foreach (var gate in gates)
                {
                    deadlocks += await DeadlocksAsync(connections, gate, one, other, textually) ? 1 : 0;
                }
            }

            // The control: in the order in which they are written they do.
            Assert.Equal(textually, deadlocks > 0);
        }
    }

    private async Task<bool> DeadlocksAsync((NpgsqlConnection, NpgsqlConnection, NpgsqlConnection) connections, string gate, string[] one, string[] other, bool textually)
    {
        var (keeper, first, second) = connections;
        await using var kept = await keeper.BeginTransactionAsync();
        await ExecuteAsync(keeper, $"lock table only {gate} in exclusive mode");
        Task<Exception?>[] callers = [CallAsync(first, one), CallAsync(second, other)];
        foreach (var (caller, connection) in callers.Zip([first, second]))
        {
            await TestServer.UntilAsync(async () => caller.IsCompleted || await Server.IsWaitingAsync(connection.ProcessID), "it waits or is done");
        }

        await kept.CommitAsync();
        var errors = (await Task.WhenAll(callers)).OfType<Exception>().ToList();
        Assert.All(errors, error => Assert.True(error is LockDeadlockException or PostgresException { SqlState: "40P01" }, error.ToString()));
        return errors.Count > 0;

        async Task<Exception?> CallAsync(NpgsqlConnection connection, string[] names)
        {
            await using var transaction = await connection.BeginTransactionAsync();
            await ExecuteAsync(connection, "set local deadlock_timeout = '20ms'");
            var error = await Record.ExceptionAsync(async () =>
            {
                var tables = names.Select(name => TableName.Parse(name.Replace("S.", _schema + ".", StringComparison.Ordinal))).ToList();
                if (textually)
                {
                    await ExecuteAsync(connection, $"lock table {string.Join(", ", tables)} in exclusive mode");
                }
                else
                {
                    Assert.True(await connection.CreateTableLock(PgLockMode.Exclusive, tables).AcquireAsync());
                }
            });
            await transaction.RollbackAsync();
            return error;
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Many_rounds_in_opposite_orders_do_not_deadlock(bool async)
    {
        await ExecuteAsync(_opened[0], "create table p (n int) partition by list (n); create table p1 partition of p for values in (1); create table p2 partition of p for values in (2)");
        TableName[][] sets = [["a", "b", "p", "p2"], ["p2", (_schema, "p1"), "b", _schema + ".a"]];
        await Task.WhenAll(sets.Select(async set =>
        {
            var connection = await OpenAsync();
            for (var round = 0; round < 200; round++)
            {
                await using var transaction = await connection.BeginTransactionAsync();
                Assert.True(await Start(connection.CreateTableLock(PgLockMode.ShareRowExclusive, set), async, Timeout.InfiniteTimeSpan));
                await transaction.CommitAsync();
            }
        }));
    }

    private static async Task<bool> Acquire(TableLock @lock, bool async, TimeSpan timeout) =>
        timeout == TimeSpan.Zero ? (async ? await @lock.AcquireAsync(block: false) : @lock.Acquire(block: false))
        : timeout == Timeout.InfiniteTimeSpan ? (async ? await @lock.AcquireAsync() : @lock.Acquire())
        : async ? await @lock.AcquireAsync(timeout) : @lock.Acquire(timeout);

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_idled_too_long_in_its_transaction_is_told_by_the_acquire(bool async)
    {
        var (connection, observer) = (await OpenAsync(), await OpenAsync());
        await using var transaction = await connection.BeginTransactionAsync();
        await connection.ExecuteAsync("set local idle_in_transaction_session_timeout = '1ms'");
        await TestServer.UntilAsync(
            async () => (bool)await ExecuteAsync(
                observer, $"select not exists (select from pg_stat_activity where pid = {connection.ProcessID})"),
            "the session has ended");
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(
            () => Acquire(connection.CreateTableLock(PgLockMode.Share, "a"), async, TimeSpan.Zero));
        Assert.Equal("25P03", Assert.IsType<PostgresException>(error.InnerException).SqlState);
    }

    private static Task<bool> Start(TableLock @lock, bool async, TimeSpan timeout, CancellationToken cancellationToken = default) => async
        ? @lock.AcquireAsync(timeout, cancellationToken).AsTask()
        : Task.Factory.StartNew(() => @lock.Acquire(timeout), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private static ConcurrentQueue<string> Notices(NpgsqlConnection connection)
    {
        var notices = new ConcurrentQueue<string>();
        connection.Notice += (_, told) => notices.Enqueue(told.Notice.MessageText);
        return notices;
    }

    private static Task<long> SessionAsync(NpgsqlConnection connection) => Task.FromResult((long)connection.ProcessID);

    // What the transaction holds of the tables, by their names.
    private static Task<object> LocksAsync(NpgsqlConnection connection) => ExecuteAsync(connection, """
        select coalesce(string_agg(c.relname || ' ' || l.mode, ', ' order by c.relname, l.mode), '') from pg_locks as l join pg_class as c on c.oid = l.relation
        where l.pid = pg_backend_pid() and l.granted and c.relnamespace <> 'pg_catalog'::regnamespace
        """);

    private static async Task AssertNoSavepointAsync(NpgsqlConnection connection)
    {
        await ExecuteAsync(connection, "savepoint before");
        Assert.Equal("3B001", (await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(connection, "rollback to savepoint dblock_table"))).SqlState);
        await ExecuteAsync(connection, "rollback to savepoint before; release savepoint before");
    }

    private static async Task<object> ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        return (await command.ExecuteScalarAsync())!;
    }

    private async Task<NpgsqlConnection> OpenAsync(string more = "")
    {
        var connection = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Search Path={_schema};{more}");
        _opened.Add(connection);
        return connection;
    }
}
