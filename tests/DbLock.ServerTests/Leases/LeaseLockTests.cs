using System.Data.Common;
using System.Diagnostics;
using DbLock.Specification;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Leases over a connection that the caller has, on every engine and through every pooler.</summary>
public sealed class LeaseLockTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(20) };
    private static readonly LockOptions Short = Options with { Lease = TimeSpan.FromSeconds(6) };

    private LockKey Key { get; } = "lease lock:" + Guid.NewGuid();

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task It_is_held_until_it_is_released_and_others_are_told_who_holds_it(string way)
    {
        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        await using var connection = await source.OpenConnectionAsync();
        await using var other = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(Key, driver, Options);
        using var others = other.CreateLock(Key, driver, Options);
        var last = 0L;
        for (var use = 0; use < 3; use++)
        {
            Assert.True(use == 0 ? mine.Acquire(block: false) : await mine.AcquireAsync(TimeSpan.FromSeconds(10)));
            Assert.True(mine.IsHeld && mine.IsHeldNow() && await mine.IsHeldAsync());
            Assert.True(mine.FencingToken > last);
            last = mine.FencingToken!.Value;
            Assert.False(await others.AcquireAsync(block: false));
            Assert.False(others.Acquire(block: false));
            Assert.False(await others.AcquireAsync(TimeSpan.FromMilliseconds(30)));
            Assert.Null(await source.TryAcquireLockAsync(Key, default, driver, Options));
            Assert.Equal(last, Assert.Single(await others.GetHoldersAsync()).Lease!.Token);
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => others.RunAsync(_ => Task.CompletedTask, TimeSpan.Zero));
            Assert.Contains($"process {Environment.ProcessId} of '", error.Message, StringComparison.Ordinal);
            Assert.True(use == 0 ? mine.Renew() : await mine.RenewAsync());
            Assert.Equal(last, mine.FencingToken);
            Assert.True(use == 0 ? mine.Release() : await mine.ReleaseAsync());
            Assert.False(mine.IsHeld || await mine.IsHeldAsync() || await mine.RenewAsync() || await mine.ReleaseAsync());
            Assert.False(mine.Lost.IsCancellationRequested);
            Assert.Empty(mine.GetHolders());
            mine.ThrowIfLost();
            Assert.True(others.Acquire(TimeSpan.FromSeconds(5)));
            Assert.True(others.FencingToken > last);
            last = others.FencingToken!.Value;
            Assert.True(others.Release());
        }

        // The connection is the caller's, with nothing left on it.
        await using var command = connection.CreateCommand();
        command.CommandText = "select 1";
        Assert.Equal("1", Convert.ToString(await command.ExecuteScalarAsync(), System.Globalization.CultureInfo.InvariantCulture));
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Several_keys_are_taken_all_or_none_and_one_connection_does_not_wait_for_itself(string way)
    {
        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        await using var connection = await source.OpenConnectionAsync();
        await using var other = await source.OpenConnectionAsync();
        LockKey[] keys = [.. Enumerable.Range(0, 10).Select(n => (LockKey)$"{Key}:{n} é")];
        await using var one = other.CreateLock(keys[3], driver, Options);
        await using var all = connection.CreateLock(LockKey.All(keys), driver, Options);
        Assert.True(await one.AcquireAsync());
        Assert.False(await all.AcquireAsync(block: false));
        Assert.True(await one.ReleaseAsync());
        Assert.True(await all.AcquireAsync());
        Assert.False(one.Acquire(block: false));
        await using var own = connection.CreateLock(keys[5], driver, Options);
        Assert.False(await own.AcquireAsync(block: false));
        Assert.Contains("would wait for itself", (await Assert.ThrowsAsync<LockException>(() => own.AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
        Assert.Throws<LockException>(() => all.Acquire());
        Assert.True(await all.RenewAsync());
        Assert.True(await all.ReleaseAsync());
        Assert.True(await own.AcquireAsync(block: false));
    }

    /// <summary>What is written in a transaction is undone by its rollback, and would then be held by two.</summary>
    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task In_a_transaction_it_is_refused_with_the_reason_also_in_one_that_the_lock_does_not_know(string way)
    {
        if (way == "PgBouncer, statement")
        {
            return; // The pooler itself refuses transactions.
        }

        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        await using var connection = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(Key, driver, Options);
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            mine.Transaction = transaction;
            var error = await Assert.ThrowsAsync<InvalidOperationException>(() => mine.AcquireAsync(block: false).AsTask());
            Assert.Contains("inside a transaction", error.Message, StringComparison.Ordinal);
            await transaction.RollbackAsync();
            mine.Transaction = null;
        }

        await ExecuteAsync("begin");
        Assert.Contains("does not commit by itself", (await Assert.ThrowsAsync<LockException>(() => mine.AcquireAsync(block: false).AsTask())).Message, StringComparison.Ordinal);
        Assert.False(mine.IsHeld);
        await ExecuteAsync("select 1");
        await ExecuteAsync("commit");
        await using (var elsewhere = await source.TryAcquireLockAsync(Key, default, driver, Options))
        {
            Assert.NotNull(elsewhere);
        }

        // Nor is it renewed in one: it is trusted for no longer than before, so that the rollback costs nothing.
        Assert.True(await mine.AcquireAsync());
        var until = Assert.Single(await mine.GetHoldersAsync()).Lease!.Until;
        await ExecuteAsync("begin");
        await Assert.ThrowsAsync<LockException>(() => mine.RenewAsync().AsTask());
        await ExecuteAsync("rollback");
        Assert.Equal(until, Assert.Single(await mine.GetHoldersAsync()).Lease!.Until);
        Assert.True(mine.IsHeld);
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            mine.Transaction = transaction;
            await Assert.ThrowsAsync<InvalidOperationException>(() => mine.RenewAsync().AsTask());
            await Assert.ThrowsAsync<InvalidOperationException>(() => mine.ReleaseAsync().AsTask());

            // After an error the transaction is rolled back, and the lease let go.
            await mine.HandleErrorAsync(new InvalidDataException());
            Assert.True(await mine.ReleaseAsync());
            mine.Transaction = null;
        }

        Assert.Empty(await mine.GetHoldersAsync());
        await mine.RunInTransactionAsync((_, _) => Task.CompletedTask);
        Assert.False(mine.IsHeld);

        async Task ExecuteAsync(string sql)
        {
            await using var command = connection.CreateCommand();
            command.CommandText = sql;
            await command.ExecuteNonQueryAsync();
        }
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task It_lasts_while_it_is_renewed_and_is_lost_when_nobody_does_which_is_told_in_time(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        await using var connection = await source.OpenConnectionAsync();
        await using var other = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(Key, null, Short);
        await using var others = other.CreateLock(Key, null, Short);
        Assert.True(await mine.AcquireAsync());
        var first = Assert.Single(await others.GetHoldersAsync()).Lease!.Until;
        while (Assert.Single(await others.GetHoldersAsync()).Lease!.Until <= first + Short.Lease)
        {
            Assert.True(await mine.RenewAsync());
            Assert.False(await others.AcquireAsync(block: false));
        }

        var lost = new TaskCompletionSource<bool>();
        await using var registration = mine.Lost.Register(() => lost.SetResult(others.IsHeld));
        var waiting = others.AcquireAsync().AsTask();
        Assert.False(await lost.Task.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.False(mine.IsHeld);
        Assert.Contains("Lock.Renew", Assert.Throws<LockLostException>(mine.ThrowIfLost).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<LockLostException>(() => mine.RenewAsync().AsTask());
        Assert.True(await waiting);
        await Assert.ThrowsAsync<LockLostException>(() => mine.ReleaseAsync().AsTask());
        Assert.False(await mine.ReleaseAsync());
        Assert.True(await others.ReleaseAsync());
        Assert.True(await mine.AcquireAsync(block: false));
        mine.ThrowIfLost();
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task A_row_that_was_changed_is_a_loss_for_who_asks_renews_or_releases(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        await using var connection = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(Key, null, Options);
        var asks = new Func<Task>[]
        {
            async () => Assert.False(await mine.IsHeldAsync()),
            () => Assert.ThrowsAsync<LockLostException>(() => mine.RenewAsync().AsTask()),
            () => Assert.ThrowsAsync<LockLostException>(() => mine.ReleaseAsync().AsTask()),
        };
        foreach (var ask in asks)
        {
            Assert.True(await mine.AcquireAsync());
            await LeaseServers.AskAsync(source, $"update dblock_leases set owner = 'thief', token = token + 1 where {(way == "MySqlConnector" ? "`key`" : "key")} = '{Key}'");
            await ask();
            Assert.False(mine.IsHeld);
            Assert.True(mine.Lost.IsCancellationRequested);
            await LeaseServers.AskAsync(source, $"delete from dblock_leases where {(way == "MySqlConnector" ? "`key`" : "key")} = '{Key}'");
        }
    }

    /// <summary>The connection's end is not the lease's. Nobody can let go of it over a connection that is closed.</summary>
    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task It_outlives_its_connection_and_is_let_go_over_the_next(string way)
    {
        var (source, driver, log) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way), new RecordingLogger());
        await using var connection = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(Key, driver, Options with { Logger = log });
        Assert.True(await mine.AcquireAsync());
        await connection.CloseAsync();
        Assert.True(mine.IsHeld);
        await Assert.ThrowsAsync<InvalidOperationException>(() => mine.RenewAsync().AsTask());
        await connection.OpenAsync();
        Assert.True(await mine.RenewAsync());
        await connection.CloseAsync();
        Assert.False(await mine.ReleaseAsync());
        Assert.False(mine.IsHeld);
        Assert.Contains(log.Warnings, warning => warning.Contains("could not be let go over its connection", StringComparison.Ordinal));
        Assert.Null(await source.TryAcquireLockAsync(Key, default, driver, Options));
        await connection.OpenAsync();
        Assert.True(await mine.ReleaseAsync());
        Assert.True(await mine.AcquireAsync(block: false));
        await connection.CloseAsync();
        Assert.False(await mine.ReleaseAsync());
        await connection.OpenAsync();
        Assert.True(await mine.AcquireAsync(block: false));
    }

    [Fact]
    public async Task Its_least_time_is_kept_also_when_it_is_let_go_later()
    {
        var source = await LeaseServers.SourceAsync("Npgsql");
        await using var connection = await source.OpenConnectionAsync();
        await using var mine = connection.CreateLock(Key, null, Options with { AtLeast = TimeSpan.FromHours(1) });
        Assert.True(await mine.AcquireAsync());
        await connection.CloseAsync();
        Assert.False(await mine.ReleaseAsync());
        await connection.OpenAsync();
        Assert.False(await mine.AcquireAsync(block: false));
        Assert.True(Assert.Single(await mine.GetHoldersAsync()).Lease!.IsReleased);
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task A_wait_that_is_cancelled_leaves_nothing_held_and_the_connection_usable(string way)
    {
        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        await using var connection = await source.OpenConnectionAsync();
        await using var held = await source.AcquireLockAsync(Key, null, driver, Options);
        await using var mine = connection.CreateLock(Key, driver, Options);
        using var cancel = new CancellationTokenSource();
        var waiting = mine.AcquireAsync(cancel.Token).AsTask();
        Assert.False(waiting.IsCompleted);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.False(mine.IsHeld);
        Assert.False(await mine.AcquireAsync(block: false));
        await held.DisposeAsync();
        Assert.True(await mine.AcquireAsync(block: false));
    }

    /// <summary>
    /// Each task has a connection of its own, and none is renewed: what takes long is lost. Sessions are ended all the time, so that answers are lost after the server has committed.
    /// </summary>
    [Theory]
    [InlineData("Npgsql", true), InlineData("AdoNet on PostgreSQL", true), InlineData("Odbc on PostgreSQL", false), InlineData("PgBouncer, transaction", false)]
    [InlineData("MySqlConnector", false), InlineData("MySql.Data", false), InlineData("Odbc on MariaDB", false), InlineData("Sqlite", false)]
    public async Task No_two_hold_one_at_a_time_and_nothing_is_left(string way, bool killed)
    {
        var (source, driver, application) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way), $"lease locks {Guid.NewGuid():N}");
        LockKey[] keys = [.. Enumerable.Range(0, 3).Select(n => (LockKey)$"{Key}:{n}")];
        var (ledger, grants) = (new LeaseLedger(keys), 0);
        await using var own = killed
            ? NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { ApplicationName = application })
            : null;
        using var end = new CancellationTokenSource();
        var killer = killed ? KillAsync() : Task.CompletedTask;
        await Task.WhenAll(Enumerable.Range(0, 6).Select(async number =>
        {
            await Task.Yield();
            var random = new Random(number);
            await using var connection = ((DbDataSource?)own ?? source).CreateConnection();
            for (var round = 0; round < 30; round++)
            {
                await using var mine = connection.CreateLock(LockKey.All(random.GetItems(keys, random.Next(1, 3))), driver, Options with { ClockMargin = TimeSpan.Zero });
                using var cancel = random.Next(8) == 0 ? new CancellationTokenSource(random.Next(30)) : new CancellationTokenSource();
                try
                {
                    if (connection.State != System.Data.ConnectionState.Open)
                    {
                        await connection.CloseAsync();
                        await connection.OpenAsync();
                    }

                    if (random.Next(3) switch
                    {
                        0 => await mine.AcquireAsync(block: false, cancel.Token),
                        1 => mine.Acquire(TimeSpan.FromMilliseconds(random.Next(50))),
                        _ => await mine.AcquireAsync(TimeSpan.FromSeconds(60), cancel.Token),
                    })
                    {
                        var began = Stopwatch.GetTimestamp();
                        await Task.Yield();
                        Assert.True(random.Next(2) == 0 || await mine.RenewAsync());
                        var ended = Stopwatch.GetTimestamp();
                        Assert.True(mine.IsHeld);
                        ledger.Note(mine.Key, mine.FencingToken!.Value, began, ended);
                        Interlocked.Increment(ref grants);
                        if (!await mine.ReleaseAsync())
                        {
                            Assert.True(killed);
                            await connection.CloseAsync();
                            await connection.OpenAsync();
                            await mine.ReleaseAsync();
                        }
                    }
                }
                catch (OperationCanceledException) when (cancel.IsCancellationRequested)
                {
                }
                catch (Exception e) when (killed && e is LockException or NpgsqlException or InvalidOperationException)
                {
                    // Its connection was ended. What the server may have given is let go over the next one.
                    await connection.CloseAsync();
                    await connection.OpenAsync();
                    await mine.ReleaseAsync();
                }
            }
        }));
        await end.CancelAsync();
        await killer;
        ledger.Check();
        Assert.True(grants > 30);
        await using var last = await source.AcquireLockAsync(LockKey.All(keys), TimeSpan.FromSeconds(60), driver, Options);
        Assert.True(last.IsHeld);

        async Task KillAsync()
        {
            await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
            while (!end.IsCancellationRequested)
            {
                await administrator.ExecuteAsync(
                    $"select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = '{application}' and random() < 0.005");
            }
        }
    }

    [Fact]
    public async Task Only_a_lease_is_renewed_and_what_a_lease_is_not_is_refused()
    {
        var source = await LeaseServers.SourceAsync("Npgsql");
        await using var connection = await source.OpenConnectionAsync();
        await using var session = connection.CreateLock(Key);
        Assert.Contains("only a lease", Assert.Throws<InvalidOperationException>(() => session.Renew()).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => connection.CreateLock(Key, null, Options with { Shared = true }));
        Assert.Throws<ArgumentOutOfRangeException>(() => connection.CreateLock(Key, null, Options with { Lease = TimeSpan.FromSeconds(1) }));
        await using var mine = connection.CreateLock(Key, null, Options with { LeaseTable = new LeaseTable($"no_{Guid.NewGuid():N}") });
        Assert.Contains("create table if not exists", (await Assert.ThrowsAsync<LockException>(() => mine.AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => mine.Acquire(TimeSpan.FromSeconds(-5)));

        // Somebody reads on the connection: nothing was sent, and the lease is held as before.
        await using var held = connection.CreateLock(Key, null, Options);
        Assert.True(await held.AcquireAsync());
        await using (var command = connection.CreateCommand())
        {
            command.CommandText = "select generate_series(1, 10)";
            await using var reader = await command.ExecuteReaderAsync();
            Assert.Contains("renew it again", (await Assert.ThrowsAsync<InvalidOperationException>(() => held.RenewAsync().AsTask())).Message, StringComparison.Ordinal);
            Assert.Contains("release it again", (await Assert.ThrowsAsync<InvalidOperationException>(() => held.ReleaseAsync().AsTask())).Message, StringComparison.Ordinal);
        }

        Assert.True(await held.ReleaseAsync());
    }
}
