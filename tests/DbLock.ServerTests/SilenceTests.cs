using System.Data;
using System.Data.Common;
using System.Diagnostics;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A limit is a limit, on a server or a network that has fallen silent, too.</summary>
public sealed class SilenceTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    // The limit is the promise, and a second more; the rest is for a machine that does much else. Without the promise it is half a minute and more.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(8);

    private LockKey Key { get; } = "silence:" + Guid.NewGuid();

    public static TheoryData<string, bool, string> Cases
    {
        get
        {
            var cases = new TheoryData<string, bool, string>();
            foreach (var driver in new[] { "Npgsql", "AdoNet", "Odbc" })
            {
                foreach (var when in new[] { "asking", "waiting", "cancelled", "in a transaction" })
                {
                    cases.Add(driver, true, when);
                    if (driver != "Odbc" && when != "cancelled")
                    {
                        cases.Add(driver, false, when);
                    }
                }
            }

            return cases;
        }
    }

    [Theory, MemberData(nameof(Cases))]
    public async Task A_call_ends_within_its_limit_whatever_the_network_does(string driver, bool async, string when)
    {
        await using var relay = await RelayAsync();
        await using var connection = await OpenAsync(driver, relay.Port);
        await using var other = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var kept = new Lock(connection, Key.Name + ":kept", Drivers.Interface(driver));
        Assert.True(await kept.Try(async));
        var holder = new Lock(other, Key);
        Assert.True(await holder.AcquireAsync(block: false));
        var session = await PostgreSqlTestServer.Instance.SessionIdAsync(connection);
        await using var transaction = when == "in a transaction" ? await connection.BeginTransactionAsync() : null;
        var @lock = new Lock(connection, Key, Drivers.Interface(driver)) { Transaction = transaction };
        using var cancel = new CancellationTokenSource();
        if (when is "asking" or "in a transaction")
        {
            relay.FallSilent();
        }

        var start = Stopwatch.GetTimestamp();
        var acquire = when == "cancelled" ? @lock.AcquireAsync(cancel.Token).AsTask() : @lock.Start(async, Limit);
        if (when is "waiting" or "cancelled")
        {
            await PostgreSqlTestServer.Instance.UntilWaitingAsync(session);
            relay.FallSilent();
        }

        if (when == "cancelled")
        {
            // Who cancels does not wait for the provider.
            cancel.Cancel();
            Assert.True(Stopwatch.GetElapsedTime(start) < Patience);
            var told = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => acquire);
            Assert.Contains("session was ended", told.Message, StringComparison.Ordinal);
        }
        else
        {
            var told = await Assert.ThrowsAsync<LockException>(() => acquire);
            Assert.Contains("has not answered", told.Message, StringComparison.Ordinal);
        }

        Assert.True(Stopwatch.GetElapsedTime(start) < Patience);
        Assert.False(@lock.IsHeld);

        // What the connection held is lost with it, and its session on the server ends when the network lets it hear of that.
        Assert.True(kept.Lost.IsCancellationRequested);
        relay.GoOn();
        await PostgreSqlTestServer.Instance.UntilFreeAsync(Key.Name + ":kept");
        await TestServer.UntilAsync(() => Task.FromResult(connection.State == ConnectionState.Closed), "the connection is closed");

        // The connection, and the lock on it, are of use again.
        await connection.OpenAsync();
        @lock.Transaction = null;
        Assert.True(await holder.ReleaseAsync());
        Assert.True(await @lock.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.True(await @lock.Release(async));
    }

    [Theory]
    [InlineData(false, "asking"), InlineData(true, "asking")]
    [InlineData(false, "waiting"), InlineData(true, "waiting"), InlineData(true, "cancelled")]
    public async Task A_table_lock_ends_within_its_limit_whatever_the_network_does(bool async, string when)
    {
        var table = "silence_" + Guid.NewGuid().ToString("N");
        await using var relay = await RelayAsync();
        await using var connection = (NpgsqlConnection)await OpenAsync("Npgsql", relay.Port);
        await using var other = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await other.ExecuteAsync($"create table {table} (n int)");
        await using var holding = await other.BeginTransactionAsync();
        await other.ExecuteAsync($"lock table {table}");
        var kept = new Lock(connection, Key.Name + ":kept");
        Assert.True(await kept.Try(async));
        await using var transaction = await connection.BeginTransactionAsync();
        var @lock = connection.CreateTableLock(PgLockMode.Share, table);
        using var cancel = new CancellationTokenSource();
        if (when == "asking")
        {
            relay.FallSilent();
        }

        var start = Stopwatch.GetTimestamp();
        var acquire = when == "cancelled" ? @lock.AcquireAsync(cancel.Token).AsTask()
            : async ? @lock.AcquireAsync(Limit).AsTask()
            : Task.Factory.StartNew(() => @lock.Acquire(Limit), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        if (when is "waiting" or "cancelled")
        {
            await PostgreSqlTestServer.Instance.UntilWaitingAsync(connection.ProcessID);
            relay.FallSilent();
        }

        if (when == "cancelled")
        {
            start = Stopwatch.GetTimestamp();
            await cancel.CancelAsync();
            var told = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => acquire);
            Assert.Equal(cancel.Token, told.CancellationToken);
            Assert.Contains("session was ended", told.Message, StringComparison.Ordinal);
        }
        else
        {
            var told = await Assert.ThrowsAsync<LockException>(() => acquire);
            Assert.Contains("has not answered", told.Message, StringComparison.Ordinal);
        }

        Assert.True(Stopwatch.GetElapsedTime(start) < Patience);

        // What the connection held is lost with it; and it is of use again.
        Assert.True(kept.Lost.IsCancellationRequested);
        relay.GoOn();
        await PostgreSqlTestServer.Instance.UntilFreeAsync(Key.Name + ":kept");
        await TestServer.UntilAsync(() => Task.FromResult(connection.State == ConnectionState.Closed), "the connection is closed");
        await holding.RollbackAsync();
        await connection.OpenAsync();
        await using var again = await connection.BeginTransactionAsync();
        Assert.True(await @lock.AcquireAsync(TimeSpan.FromMinutes(1)));
        await again.RollbackAsync();
        await other.ExecuteAsync($"drop table {table}");
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task The_end_of_a_data_sources_lock_is_no_longer_than_it_is_trusted(string driver, bool hasBeaten)
    {
        await using var relay = await RelayAsync();
        await using var source = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString)
        {
            Host = "127.0.0.1",
            Port = relay.Port,
            Timeout = 0,
        }.ConnectionString);
        var held = source.AcquireLock(Key, lockInterface: Drivers.Interface(driver));
        if (hasBeaten)
        {
            // The first question has brought the settings of the session, which go back with the release.
            await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync();
            var question = $"""
                select count(*) from pg_stat_activity as a join pg_locks as l using (pid)
                where a.state = 'idle' and a.query !~ 'pg_try_advisory_lock' and l.locktype = 'advisory' and ((l.classid::bigint << 32) | l.objid::bigint) = {Key.Number}
                """;
            await TestServer.UntilAsync(async () => (long)(await observer.ExecuteAsync(question))! > 0, "the first question was answered");
        }

        // A thread of its own, as a blocking program has it.
        relay.FallSilent();
        var start = Stopwatch.GetTimestamp();
        await Task.Factory.StartNew(held.Dispose, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

        // It was three times as long, or for ever.
        Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(30));
        relay.GoOn();
        await PostgreSqlTestServer.Instance.UntilFreeAsync(Key);
    }

    private static async Task<SilentRelay> RelayAsync()
    {
        var server = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        return new SilentRelay(server.Host!, server.Port);
    }

    private static async Task<DbConnection> OpenAsync(string driver, int port) => await Drivers.OpenAsync(driver, port);
}
