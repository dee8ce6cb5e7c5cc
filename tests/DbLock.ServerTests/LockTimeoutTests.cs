using System.Collections.Concurrent;
using System.Data;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>The scopes of lock_timeout.</summary>
public sealed class LockTimeoutTests : IAsyncDisposable
{
    private static readonly TimeSpan Five = TimeSpan.FromSeconds(5);

    private readonly List<NpgsqlConnection> _opened = [];
    private readonly ConcurrentQueue<string> _notices = new();

    public static TheoryData<bool, string> NextUses
    {
        get
        {
            var uses = new TheoryData<bool, string>();
            foreach (var use in new[] { "scope", "table lock", "lock", "dispose" })
            {
                uses.Add(false, use);
                uses.Add(true, use);
            }

            return uses;
        }
    }

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    public async ValueTask DisposeAsync()
    {
        foreach (var connection in _opened)
        {
            await connection.DisposeAsync();
        }

        Assert.Empty(_notices);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_was_there_before_comes_back(bool async)
    {
        var connection = await OpenAsync();
        foreach (var before in new[] { "0", "7s", "1500ms", "1min", "1d" })
        {
            await ExecuteAsync(connection, $"set lock_timeout = '{before}'");
            var scope = await Open(connection, async, Five);
            Assert.Equal("5s", await ShowAsync(connection));
            await Dispose(scope, async);
            Assert.Equal(before, await ShowAsync(connection));
            await ExecuteAsync(connection, "set lock_timeout = '9s'");
            await Dispose(scope, async);
            Assert.Equal("9s", await ShowAsync(connection));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task In_a_transaction_too_and_after_it(bool async)
    {
        var connection = await OpenAsync();
        foreach (var commit in new[] { false, true })
        {
            foreach (var (own, inside, after) in new[] { ("select 1", "7s", "7s"), ("set local lock_timeout = '3s'", "3s", "7s"), ("set lock_timeout = '4s'", "4s", commit ? "4s" : "7s") })
            {
                foreach (var raw in new[] { false, true })
                {
                    await ExecuteAsync(connection, "set lock_timeout = '7s'");
                    var transaction = raw ? null : await connection.BeginTransactionAsync();
                    await ExecuteAsync(connection, $"{(raw ? "begin; " : "")}{own}");
                    var scope = await Open(connection, async, Five);
                    Assert.Equal("5s", await ShowAsync(connection));
                    await Dispose(scope, async);
                    Assert.Equal(inside, await ShowAsync(connection));
                    await ExecuteAsync(connection, commit ? "commit" : "rollback");
                    await (transaction?.DisposeAsync() ?? default);
                    Assert.Equal(after, await ShowAsync(connection));
                }
            }
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_transaction_that_ends_within_takes_its_setting_with_it(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'; begin; set local lock_timeout = '3s'");
        var scope = await Open(connection, async, Five);
        await ExecuteAsync(connection, "set timezone = 'Asia/Tokyo'; commit");
        Assert.Equal("7s", await ShowAsync(connection));

        // In the next transaction it is nobody's business.
        await ExecuteAsync(connection, "begin; set local lock_timeout = '2s'");
        await Dispose(scope, async);
        Assert.Equal("2s", await ShowAsync(connection));
        await ExecuteAsync(connection, "commit");
        Assert.Equal("7s", await ShowAsync(connection));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Another_time_zone_is_the_same_transaction(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "begin; set local lock_timeout = '3s'");
        var scope = await Open(connection, async, Five);
        await ExecuteAsync(connection, "set timezone = 'Asia/Tokyo'; set datestyle = 'German'");
        await Dispose(scope, async);
        Assert.Equal("3s", await ShowAsync(connection));
        await ExecuteAsync(connection, "rollback");
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    public async Task Three_deep_in_whatever_order_they_are_disposed(bool async, bool inside)
    {
        var connection = await OpenAsync();
        int[][] orders = [[2, 1, 0], [2, 0, 1], [1, 2, 0], [1, 0, 2], [0, 1, 2], [0, 2, 1]];
        foreach (var order in orders)
        {
            await ExecuteAsync(connection, "set lock_timeout = '7s'");
            await ExecuteAsync(connection, inside ? "begin; set local lock_timeout = '3s'" : "select 1");
            LockTimeoutScope[] scopes = [await Open(connection, async, Five), await Open(connection, async, TimeSpan.FromSeconds(6)), await Open(connection, async, Five)];
            Assert.Equal("5s", await ShowAsync(connection));
            await Dispose(scopes[order[0]], async);
            Assert.Equal(order[0] == 2 ? "6s" : "5s", await ShowAsync(connection));
            await Dispose(scopes[order[1]], async);
            Assert.Equal(order[2] == 1 ? "6s" : "5s", await ShowAsync(connection));
            await Dispose(scopes[order[2]], async);
            Assert.Equal(inside ? "3s" : "7s", await ShowAsync(connection));
            await ExecuteAsync(connection, inside ? "commit" : "select 1");
            Assert.Equal("7s", await ShowAsync(connection));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_body_may_fail(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        await Assert.ThrowsAsync<DivideByZeroException>(async () =>
        {
            if (async)
            {
                await using var scope = await connection.LockTimeoutAsync(Five);
                throw new DivideByZeroException();
            }

            using (connection.LockTimeout(Five))
            {
                throw new DivideByZeroException();
            }
        });
        Assert.Equal("7s", await ShowAsync(connection));
    }

    [Theory, MemberData(nameof(NextUses))]
    public async Task Disposed_in_a_failed_transaction_it_is_given_back_at_the_next_use(bool async, string use)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        var scope = await Open(connection, async, Five);
        await FailAsync(connection, "begin");
        await Dispose(scope, async);
        await Dispose(scope, async);
        await ExecuteAsync(connection, "rollback");
        Assert.Equal("5s", await ShowAsync(connection));
        await UseAsync(connection, scope, async, use);
        Assert.Equal("7s", await ShowAsync(connection));
        await AssertNothingIsOwedAsync(connection, scope, async);
    }

    [Theory, MemberData(nameof(NextUses))]
    public async Task Disposed_in_a_transaction_that_is_then_rolled_back_it_is_given_back_at_the_next_use(bool async, string use)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        var outer = await Open(connection, async, Five);
        var inner = await Open(connection, async, TimeSpan.FromSeconds(6));
        await ExecuteAsync(connection, "begin");
        await Dispose(inner, async);
        Assert.Equal("5s", await ShowAsync(connection));
        await Dispose(outer, async);
        Assert.Equal("7s", await ShowAsync(connection));
        await ExecuteAsync(connection, "rollback");
        Assert.Equal("6s", await ShowAsync(connection));
        await UseAsync(connection, inner, async, use);
        Assert.Equal("7s", await ShowAsync(connection));
        await AssertNothingIsOwedAsync(connection, outer, async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_the_caller_set_after_a_commit_is_not_taken_from_him(bool async)
    {
        var connection = await OpenAsync();
        var scope = await Open(connection, async, Five);
        await ExecuteAsync(connection, "begin");
        await Dispose(scope, async);
        await ExecuteAsync(connection, "commit; set lock_timeout = '9s'");
        await UseAsync(connection, scope, async, "lock");
        Assert.Equal("9s", await ShowAsync(connection));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_is_owed_does_not_disturb_a_scope_that_is_open(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        var owing = await Open(connection, async, Five);
        await ExecuteAsync(connection, "begin");
        await Dispose(owing, async);
        var scope = await Open(connection, async, Five);
        await UseAsync(connection, owing, async, "table lock");
        Assert.Equal("5s", await ShowAsync(connection));
        await Dispose(scope, async);
        Assert.Equal("7s", await ShowAsync(connection));
        await ExecuteAsync(connection, "rollback");
        Assert.Equal("5s", await ShowAsync(connection));
        await Dispose(owing, async);
        Assert.Equal("7s", await ShowAsync(connection));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Opened_in_a_transaction_that_failed_it_goes_with_the_rollback(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'; begin; set local lock_timeout = '3s'; savepoint before");
        var scope = await Open(connection, async, Five);
        await FailAsync(connection, "savepoint within");
        await Dispose(scope, async);
        await ExecuteAsync(connection, "rollback to savepoint within");
        Assert.Equal("5s", await ShowAsync(connection));
        await UseAsync(connection, scope, async, "table lock");
        Assert.Equal("3s", await ShowAsync(connection));
        scope = await Open(connection, async, Five);
        await FailAsync(connection, "select 1");
        await Dispose(scope, async);
        await ExecuteAsync(connection, "rollback to savepoint before");
        Assert.Equal("3s", await ShowAsync(connection));
        await ExecuteAsync(connection, "commit");
        Assert.Equal("7s", await ShowAsync(connection));
        await AssertNothingIsOwedAsync(connection, scope, async);
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    public async Task Scopes_of_the_session_and_of_a_transaction_may_be_disposed_crosswise(bool async, bool commit)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        var session = await Open(connection, async, Five);
        await ExecuteAsync(connection, "begin");
        var local = await Open(connection, async, TimeSpan.FromSeconds(6));
        await Dispose(session, async);
        Assert.Equal("6s", await ShowAsync(connection));
        await Dispose(local, async);
        Assert.Equal("7s", await ShowAsync(connection));
        await ExecuteAsync(connection, commit ? "commit" : "rollback");
        await UseAsync(connection, session, async, "lock");
        Assert.Equal("7s", await ShowAsync(connection));

        // The transaction of the upper one is over when the lower one is disposed.
        session = await Open(connection, async, Five);
        await ExecuteAsync(connection, "begin");
        local = await Open(connection, async, TimeSpan.FromSeconds(6));
        await ExecuteAsync(connection, commit ? "commit" : "rollback");
        Assert.Equal("5s", await ShowAsync(connection));
        await Dispose(session, async);
        Assert.Equal("7s", await ShowAsync(connection));
        await Dispose(local, async);
        Assert.Equal("7s", await ShowAsync(connection));
        await AssertNothingIsOwedAsync(connection, session, async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_rollback_to_a_savepoint_within_leaves_the_scope_in_force(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "begin; set local lock_timeout = '3s'; savepoint one");
        var scope = await Open(connection, async, Five);
        await ExecuteAsync(connection, "savepoint two");
        var inner = await Open(connection, async, TimeSpan.FromSeconds(6));
        await ExecuteAsync(connection, "rollback to savepoint two");
        await Dispose(inner, async);
        Assert.Equal("5s", await ShowAsync(connection));
        await Dispose(scope, async);
        Assert.Equal("3s", await ShowAsync(connection));
        await ExecuteAsync(connection, "rollback to savepoint one");
        Assert.Equal("3s", await ShowAsync(connection));
        await ExecuteAsync(connection, "rollback");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_closed_connection_has_nothing_to_give_back(bool async)
    {
        var connection = await OpenAsync();
        LockTimeoutScope[] open = [await Open(connection, async, Five), await Open(connection, async, Five)];
        var owed = await Open(connection, async, TimeSpan.FromSeconds(6));
        await FailAsync(connection, "begin");
        await Dispose(owed, async);
        await connection.CloseAsync();
        await Dispose(open[1], async);
        await connection.OpenAsync();
        Assert.Equal("0", await ShowAsync(connection));
        await ExecuteAsync(connection, "set lock_timeout = '6s'");
        await Dispose(owed, async);
        Assert.Equal("6s", await ShowAsync(connection));
        await Dispose(open[0], async);
        Assert.Equal("6s", await ShowAsync(connection));
        await connection.DisposeAsync();
        await Dispose(open[0], async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_dead_session_is_not_the_scopes_to_tell(bool async)
    {
        var connection = await OpenAsync("Pooling=false");
        var scope = await Open(connection, async, Five);
        await Server.KillAsync(connection.ProcessID);
        await Dispose(scope, async);
        Assert.NotEqual(ConnectionState.Open, connection.State);
        await Dispose(scope, async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Under_an_open_reader_it_is_given_back_at_the_next_use(bool async)
    {
        var connection = await OpenAsync();
        var scope = await Open(connection, async, Five);
        await using (var command = new NpgsqlCommand("select 1", connection))
        await using (await command.ExecuteReaderAsync())
        {
            await Dispose(scope, async);
            Assert.Throws<NpgsqlOperationInProgressException>(() => connection.LockTimeout(Five));
        }

        Assert.Equal("5s", await ShowAsync(connection));
        await Dispose(scope, async);
        Assert.Equal("0", await ShowAsync(connection));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Two_connections_have_nothing_to_do_with_each_other(bool async)
    {
        var (one, two) = (await OpenAsync(), await OpenAsync());
        await ExecuteAsync(one, "set lock_timeout = '1s'");
        await ExecuteAsync(two, "set lock_timeout = '2s'");
        var outer = await Open(one, async, Five);
        var inner = await Open(two, async, TimeSpan.FromSeconds(6));
        await Dispose(outer, async);
        Assert.Equal(("1s", "6s"), (await ShowAsync(one), await ShowAsync(two)));
        await Dispose(inner, async);
        Assert.Equal(("1s", "2s"), (await ShowAsync(one), await ShowAsync(two)));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_timeout_is_told_as_the_server_counts_it(bool async)
    {
        var connection = await OpenAsync();
        await ExecuteAsync(connection, "set lock_timeout = '7s'");
        foreach (var (timeout, told) in new[]
        {
            (TimeSpan.FromTicks(1), "1ms"), (TimeSpan.FromMicroseconds(1001), "2ms"), (TimeSpan.FromMilliseconds(int.MaxValue), "2147483647ms"), (Timeout.InfiniteTimeSpan, "0"),
        })
        {
            var scope = await Open(connection, async, timeout);
            Assert.Equal(told, await ShowAsync(connection));
            await Dispose(scope, async);
            Assert.Equal("7s", await ShowAsync(connection));
        }

        Assert.Contains("for ever", (await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Open(connection, async, TimeSpan.Zero))).Message, StringComparison.Ordinal);
        foreach (var timeout in new[] { TimeSpan.FromTicks(-1), TimeSpan.FromMilliseconds(int.MaxValue) + TimeSpan.FromTicks(1), TimeSpan.MaxValue })
        {
            await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Open(connection, async, timeout));
        }

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connection.LockTimeoutAsync(Five, cancellationToken: new CancellationToken(true)).AsTask());
        Assert.Equal("7s", await ShowAsync(connection));
        await connection.CloseAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(() => Open(connection, async, Five));
    }

    [Fact]
    public async Task A_statement_under_it_waits_no_longer()
    {
        var table = "waited_for_" + Guid.NewGuid().ToString("N");
        var (connection, holder) = (await OpenAsync(), await OpenAsync());
        await ExecuteAsync(holder, $"create table {table} (n int)");
        await ExecuteAsync(holder, $"begin; lock table {table}");
        await using (await connection.LockTimeoutAsync(TimeSpan.FromMilliseconds(20)))
        {
            Assert.Equal("55P03", (await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(connection, $"select * from {table}"))).SqlState);
        }

        await ExecuteAsync(holder, "rollback");
        await ExecuteAsync(holder, $"drop table {table}");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task It_costs_one_round_trip_in_a_transaction_and_one_more_to_open_outside(bool async)
    {
        var counter = new RoundTrips();
        await using var source = new NpgsqlDataSourceBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString).UseLoggerFactory(counter).Build();
        await using var connection = await source.OpenConnectionAsync();
        foreach (var inside in new[] { false, true })
        {
            await using var transaction = inside ? await connection.BeginTransactionAsync() : null;
            counter.Count = 0;
            var scope = await Open(connection, async, Five);
            Assert.Equal(inside ? 1 : 2, counter.Count);
            counter.Count = 0;
            await Dispose(scope, async);
            Assert.Equal(1, counter.Count);

            // Where nothing is owed, a lock pays nothing.
            counter.Count = 0;
            await using var @lock = new Lock(connection, Guid.NewGuid().ToString()) { Transaction = transaction };
            Assert.True(await @lock.Try(async));
            Assert.Equal(1, counter.Count);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Through_a_pooler_it_needs_a_transaction_or_trust(bool async)
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        await using (var pooler = await PgBouncer.StartAsync(server, "transaction", poolSize: 1))
        {
            await using var connection = new NpgsqlConnection(pooler.ConnectionString + ";Pooling=false");
            await using var other = new NpgsqlConnection(pooler.ConnectionString + ";Pooling=false");
            await connection.OpenAsync();
            await other.OpenAsync();
            Assert.Contains("trustPooler", (await Assert.ThrowsAsync<LockException>(() => Open(connection, async, Five))).Message, StringComparison.Ordinal);
            Assert.Equal("0", await ShowAsync(other));
            await using (await connection.BeginTransactionAsync())
            {
                var scope = await Open(connection, async, Five);
                Assert.Equal("5s", await ShowAsync(connection));
                Assert.True(await connection.CreateTableLock(PgLockMode.AccessShare, "pg_catalog.pg_class").AcquireAsync());
                await Dispose(scope, async);
                Assert.Equal("0", await ShowAsync(connection));
            }

            // Not disposed: it ends with its transaction.
            await using (var transaction = await connection.BeginTransactionAsync())
            {
                await Open(connection, async, Five);
                await transaction.CommitAsync();
            }

            Assert.Equal("0", await ShowAsync(other));
        }

        await using (var pooler = await PgBouncer.StartAsync(server, "session"))
        {
            await using var connection = new NpgsqlConnection(pooler.ConnectionString + ";Pooling=false");
            await connection.OpenAsync();
            await Assert.ThrowsAsync<LockException>(() => Open(connection, async, Five));
            var scope = async ? await connection.LockTimeoutAsync(Five, trustPooler: true) : connection.LockTimeout(Five, trustPooler: true);
            Assert.Equal("5s", await ShowAsync(connection));
            await Dispose(scope, async);
            Assert.Equal("0", await ShowAsync(connection));
        }
    }

    [Fact]
    public async Task Multiplexing_needs_a_transaction()
    {
        await using var connection = await OpenAsync("Multiplexing=true");
        Assert.Contains("Multiplexing", (await Assert.ThrowsAsync<LockException>(() => connection.LockTimeoutAsync(Five).AsTask())).Message, StringComparison.Ordinal);
        await using var transaction = await connection.BeginTransactionAsync();
        await using (await connection.LockTimeoutAsync(Five))
        {
            Assert.Equal("5s", await ShowAsync(connection));
        }

        Assert.Equal("0", await ShowAsync(connection));
    }

    private static async Task<LockTimeoutScope> Open(NpgsqlConnection connection, bool async, TimeSpan timeout) =>
        async ? await connection.LockTimeoutAsync(timeout) : connection.LockTimeout(timeout);

    private static async Task Dispose(LockTimeoutScope scope, bool async)
    {
        if (async)
        {
            await scope.DisposeAsync();
        }
        else
        {
            scope.Dispose();
        }
    }

    private static async Task UseAsync(NpgsqlConnection connection, LockTimeoutScope scope, bool async, string use)
    {
        switch (use)
        {
            case "scope":
                await Dispose(await Open(connection, async, TimeSpan.FromSeconds(1)), async);
                break;
            case "table lock":
                var @lock = connection.CreateTableLock(PgLockMode.AccessShare, "pg_catalog.pg_class");
                await Record.ExceptionAsync(async () => _ = async ? await @lock.AcquireAsync(block: false) : @lock.Acquire(block: false));
                break;
            case "lock":
                await using (var advisory = new Lock(connection, Guid.NewGuid().ToString()))
                {
                    Assert.True(await advisory.Try(async));
                }

                break;
            default:
                await Dispose(scope, async);
                break;
        }
    }

    // Were anything owed, it would be taken for what the scope had set.
    private static async Task AssertNothingIsOwedAsync(NpgsqlConnection connection, LockTimeoutScope scope, bool async)
    {
        await ExecuteAsync(connection, "set lock_timeout = '5s'");
        await Dispose(scope, async);
        Assert.Equal("5s", await ShowAsync(connection));
    }

    private static async Task FailAsync(NpgsqlConnection connection, string before)
    {
        await ExecuteAsync(connection, before);
        await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(connection, Server.FailingSql));
    }

    private static async Task<string> ShowAsync(NpgsqlConnection connection) => (string)(await ExecuteAsync(connection, "show lock_timeout"))!;

    private static async Task<object?> ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteScalarAsync();
    }

    private async Task<NpgsqlConnection> OpenAsync(string more = "")
    {
        var connection = await PostgreSqlTestServer.OpenNpgsqlAsync(more);
        connection.Notice += (_, told) => _notices.Enqueue(told.Notice.MessageText);
        _opened.Add(connection);
        return connection;
    }
}
