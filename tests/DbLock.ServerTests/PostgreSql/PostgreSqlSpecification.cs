using System.Collections.Concurrent;
using System.Data.Common;
using System.Data.Odbc;
using Npgsql;
using ThirdParty;

namespace DbLock.ServerTests;

/// <summary>What every driver does on PostgreSQL, beyond the specification that all servers share.</summary>
public abstract partial class PostgreSqlSpecification(LockInterface lockInterface)
    : LockSpecification(PostgreSqlTestServer.Instance, lockInterface)
{
    protected override bool AnErrorAbortsTheTransaction => true;

    protected override int Races => 1000;

    private static PostgreSqlTestServer PostgreSql => PostgreSqlTestServer.Instance;

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
        TimeSpan[] timeouts =
            [TimeSpan.Zero, .. Enumerable.Range(1, 20).Select(n => TimeSpan.FromMilliseconds(n)), Timeout.InfiniteTimeSpan];
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

    [Fact]
    public async Task Each_interface_keeps_its_own_dialect_on_a_connection()
    {
        var connection = await OpenAsync();
        if (connection is not NpgsqlConnection)
        {
            return;
        }

        // The sample's dialect locks the number that the server makes of the name.
        LockKey number = (long)(await ExecuteAsync(connection, $"select hashtextextended('{Key}' collate \"C\", 0)"))!;
        var (ours, theirs) = (NewLock(connection), new Lock(connection, Key, LockInterface.Plain));
        Assert.True(await ours.AcquireAsync(block: false));
        Assert.False(await Server.IsHeldAsync(number));
        Assert.True(await theirs.AcquireAsync(block: false));
        Assert.True(await Server.IsHeldAsync(number));
        Assert.True(await ours.ReleaseAsync());
        Assert.True(await Server.IsHeldAsync(number));
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

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_method_is_run_under_a_lock_of_its_own_name(bool async)
    {
        const string Name = "DbLock.ServerTests.PostgreSqlSpecification.Job.Report";
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
