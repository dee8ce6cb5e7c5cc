using System.Data.Common;
using System.Data.Odbc;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A lock on a connection of its own: what becomes of it is noticed though nobody asks.</summary>
public sealed class LossTests
{
    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private LockKey Key { get; } = "loss:" + Guid.NewGuid();

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_is_killed_is_noticed_though_nobody_uses_it(bool async)
    {
        await using var source = await SourceAsync();
        var held = async ? await source.AcquireLockAsync(Key) : source.AcquireLock(Key);
        held.ThrowIfLost();
        var lost = Task.Delay(Timeout.Infinite, held.Lost);
        await Server.KillHolderAsync(Key);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => lost.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.False(held.IsHeld);
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(async () => _ = async ? await held.ReleaseAsync() : held.Release());
        await held.DisposeAsync();

        await using var next = await source.AcquireLockAsync(Key);
        Assert.True(next.IsHeld);
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet"), InlineData("Odbc")]
    public async Task A_server_that_cannot_say_whether_the_lock_is_held_has_not_lost_it(string driver)
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={database.Name};Pooling=false");
        await administrator.ExecuteAsync($"revoke select on pg_catalog.pg_locks from public; revoke execute on function pg_catalog.pg_lock_status() from public; create role {database.Name} login password 'blind'");
        var server = await PostgreSqlTestServer.ServerAsync;
        var odbc = new DbConnectionStringBuilder(useOdbcRules: true) { ConnectionString = server.OdbcConnectionString, ["Database"] = database.Name, ["UID"] = database.Name, ["PWD"] = "blind" };
        await using (DbDataSource source = driver == "Odbc"
            ? OdbcFactory.Instance.CreateDataSource(odbc.ConnectionString)
            : NpgsqlDataSource.Create($"{server.ConnectionString};Database={database.Name};Username={database.Name};Password=blind;Pooling=false"))
        await using (var held = await source.AcquireLockAsync(Key, lockInterface: Drivers.Interface(driver)))
        {
            // Each question is another statement of the session.
            var beats = new HashSet<DateTime>();
            await TestServer.UntilAsync(
                async () => beats.Add((DateTime)(await administrator.ExecuteAsync($"select query_start at time zone 'utc' from pg_stat_activity where usename = '{database.Name}'"))!) && beats.Count > 3,
                "it was asked three times");
            held.ThrowIfLost();
            Assert.True(held.IsHeld);
            Assert.True(await held.ReleaseAsync());
        }

        await database.DisposeAsync();
        await using var cleaner = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await cleaner.ExecuteAsync($"drop role {database.Name}");
    }

    [Theory, InlineData("restart"), InlineData("crash"), InlineData("kill -9"), InlineData("idle_session_timeout")]
    public async Task However_a_session_ends_its_locks_are_lost(string end)
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await using var held = await source.AcquireLockAsync(Key);
        await using var pool = new LockPool(source);
        await using var pooled = await pool.AcquireLockAsync(Key.Name + ":pool");
        await using var connection = new NpgsqlConnection(server.ConnectionString + ";Pooling=false");
        await connection.OpenAsync();
        var @lock = new Lock(connection, Key.Name + ":caller");
        Assert.True(await @lock.AcquireAsync());
        if (end == "idle_session_timeout")
        {
            if (server.Version.Major < 14)
            {
                return;
            }

            // Only a caller's own session can be ended by it.
            await connection.ExecuteAsync("set idle_session_timeout = 50");
            await using var observer = await source.OpenConnectionAsync();
            await TestServer.UntilAsync(async () => (long)(await observer.ExecuteAsync($"select count(*) from pg_stat_activity where pid = {connection.ProcessID}"))! == 0, "the session has ended");
        }
        else
        {
            await (end == "kill -9" ? SignalAsync("KILL", connection.ProcessID) : server.RestartAsync(immediate: end == "crash"));
            foreach (var lost in new[] { held.Lost, pooled.Lost })
            {
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, lost).WaitAsync(TimeSpan.FromSeconds(30)));
            }
        }

        // A caller's connection tells at its next use.
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => connection.ExecuteAsync("select 1"));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, @lock.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Throws<LockLostException>(@lock.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(async () => await @lock.ReleaseAsync());
    }

    [Fact]
    public async Task A_server_that_answers_no_more_is_not_trusted_for_long()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await using var other = NpgsqlDataSource.Create(server.ConnectionString);
        await using var held = await source.AcquireLockAsync(Key);
        await using var connection = await other.OpenConnectionAsync();
        var pid = (int)(await connection.ExecuteAsync("select pid from pg_locks where locktype = 'advisory'"))!;
        await SignalAsync("STOP", pid);
        try
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, held.Lost).WaitAsync(TimeSpan.FromSeconds(60)));
            Assert.Throws<LockLostException>(held.ThrowIfLost);
        }
        finally
        {
            await SignalAsync("CONT", pid);
        }

        // It was held on the server all the time, and does not go back into the pool.
        await held.DisposeAsync();
        await TestServer.UntilAsync(async () => (long)(await connection.ExecuteAsync("select count(*) from pg_locks where locktype = 'advisory'"))! == 0, "the session has ended");
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task A_cancel_is_not_held_up_by_a_session_that_answers_no_more(string driver)
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();

        // Npgsql's cancel waits for the answer to a reset.
        await using var source = NpgsqlDataSource.Create(server.ConnectionString + ";Maximum Pool Size=1;Command Timeout=0;No Reset On Close=true");
        int pid;
        await using (var connection = await source.OpenConnectionAsync())
        {
            pid = connection.ProcessID;
        }

        await SignalAsync("STOP", pid);
        try
        {
            // It is what is set on the session, before the wait, that is not answered.
            using var cancel = new CancellationTokenSource();
            var wait = source.AcquireLockAsync(Key, lockInterface: Drivers.Interface(driver), cancellationToken: cancel.Token).AsTask();
            Assert.False(wait.IsCompleted);
            await cancel.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait.WaitAsync(TimeSpan.FromSeconds(10)));
        }
        finally
        {
            await SignalAsync("CONT", pid);
        }

        await using var again = await source.OpenConnectionAsync();
        Assert.NotEqual(pid, again.ProcessID);
    }

    [Theory, InlineData("Npgsql", ";Maximum Pool Size=1;Timeout=1"), InlineData("AdoNet", ""), InlineData("Odbc", "")]
    public async Task A_pool_whose_server_answers_no_more_says_so_and_goes_on_elsewhere(string driver, string more)
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using DbDataSource source = driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource(server.OdbcConnectionString) : NpgsqlDataSource.Create(server.ConnectionString + more);
        await using var observers = NpgsqlDataSource.Create(server.ConnectionString);
        await using var connection = await observers.OpenConnectionAsync();
        var logger = new RecordingLogger();
        await using var pool = new LockPool(source, Drivers.Interface(driver), new LockPoolOptions { Logger = logger });
        await using var held = await pool.AcquireLockAsync(Key);
        await using var released = await pool.AcquireLockAsync(Key.Name + ":released");
        var pid = (int)(await connection.ExecuteAsync("select distinct pid from pg_locks where locktype = 'advisory'"))!;
        var start = Stopwatch.GetTimestamp();
        Task<PooledLock> next;
        await SignalAsync("STOP", pid);
        try
        {
            // Each is part of what the server does not answer.
            var other = pool.AcquireLockAsync(Key.Name + ":other").AsTask();
            var release = released.ReleaseAsync().AsTask();
            next = ByAnotherTask(pool, Key);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, held.Lost).WaitAsync(TimeSpan.FromSeconds(60)));
            Assert.True(Stopwatch.GetElapsedTime(start) > TimeSpan.FromSeconds(13));
            Assert.False(held.IsHeld);
            Assert.Throws<LockLostException>(held.ThrowIfLost);
            await Assert.ThrowsAsync<LockLostException>(() => held.ReleaseAsync().AsTask());
            await Assert.ThrowsAsync<LockLostException>(() => release.WaitAsync(TimeSpan.FromSeconds(30)));

            // The others have another session, and who wants what the old one still holds waits for its end.
            await using var elsewhere = await other.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.True(elsewhere.IsHeld);
            Assert.True(await elsewhere.ReleaseAsync());
            Assert.False(next.IsCompleted);

            // The session that is given up tells it, while the new one is already asked.
            await TestServer.UntilAsync(() => Task.FromResult(logger.Warnings.Any(line => line.Contains("locks of a LockPool was lost", StringComparison.Ordinal))), "the loss is logged");
        }
        finally
        {
            await SignalAsync("CONT", pid);
        }

        await using var again = await next.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.True(again.IsHeld);
        await TestServer.UntilAsync(async () => (long)(await connection.ExecuteAsync($"select count(*) from pg_stat_activity where pid = {pid}"))! == 0, "the old session has ended");
        Assert.True(await again.ReleaseAsync());
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet"), InlineData("Odbc")]
    public async Task A_pool_that_ends_while_the_server_answers_no_more_says_so_and_ends(string driver)
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using DbDataSource source = driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource(server.OdbcConnectionString) : NpgsqlDataSource.Create(server.ConnectionString);
        await using var observers = NpgsqlDataSource.Create(server.ConnectionString);
        await using var connection = await observers.OpenConnectionAsync();
        var pool = new LockPool(source, Drivers.Interface(driver));
        var held = await pool.AcquireLockAsync(Key);
        var pid = (int)(await connection.ExecuteAsync("select distinct pid from pg_locks where locktype = 'advisory'"))!;
        await SignalAsync("STOP", pid);
        try
        {
            pool.Dispose();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, held.Lost).WaitAsync(TimeSpan.FromSeconds(60)));
            Assert.False(held.IsHeld);
            await pool.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));
        }
        finally
        {
            await SignalAsync("CONT", pid);
        }

        await TestServer.UntilAsync(async () => (long)(await connection.ExecuteAsync($"select count(*) from pg_stat_activity where pid = {pid}"))! == 0, "the session has ended");
    }

    [Theory, InlineData(LockScope.Session, "pg_advisory_unlock_all"), InlineData(LockScope.Lease, "owner = ''")]
    public async Task A_lock_that_is_held_while_its_pool_ends_is_told_lost_before_the_server_lets_go_of_it(LockScope scope, string lettingGo)
    {
        await using var source = await SourceAsync();
        await LeaseTable.Default.CreateAsync(source);
        var (sending, isHeld) = (new SendingDriver(LockInterface.Npgsql.Driver), new List<bool>());
        var pool = new LockPool(source, sending.Interface, new LockPoolOptions { Scope = scope });
        var held = await pool.AcquireLockAsync(Key);
        sending.Sees = statement =>
        {
            if (Array.Exists(statement.Commands, command => command.Sql.Numbered.Contains(lettingGo, StringComparison.Ordinal)))
            {
                isHeld.Add(held.IsHeld || !held.Lost.IsCancellationRequested);
            }
        };
        await pool.DisposeAsync();
        Assert.Equal([false], isHeld);
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet"), InlineData("Odbc")]
    public async Task A_lock_of_a_pool_that_is_gone_from_its_session_is_noticed_and_the_others_stay(string driver)
    {
        await using DbDataSource source = driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource((await PostgreSqlTestServer.ServerAsync).OdbcConnectionString) : await SourceAsync();
        var sending = new SendingDriver(Drivers.Interface(driver).Driver);
        var logger = new RecordingLogger();
        await using var pool = new LockPool(source, sending.Interface, new LockPoolOptions { Logger = logger });
        LockKey gone = Key.Name + ":gone";
        await using var kept = await pool.AcquireLockAsync(Key);
        await using var one = await pool.AcquireLockAsync(gone, shared: true);
        await using var two = await pool.AcquireLockAsync(LockKey.All(gone, Key.Name + ":beside"), shared: true);
        var next = ByAnotherTask(pool, gone);
        sending.Before = $"select pg_advisory_unlock_shared({gone.Number})";
        foreach (var lost in new[] { one, two })
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, lost.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
            Assert.False(lost.IsHeld);
            Assert.Throws<LockLostException>(lost.ThrowIfLost);
            await Assert.ThrowsAsync<LockLostException>(() => lost.ReleaseAsync().AsTask());
        }

        await using var granted = await next.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.True(await Server.IsHeldAsync(gone));
        Assert.True(kept.IsHeld);
        Assert.False(kept.Lost.IsCancellationRequested);
        await TestServer.UntilAsync(async () => !await Server.IsHeldAsync(Key.Name + ":beside"), "what was held beside it is let go");
        Assert.Equal(2, logger.Warnings.Count(line => line.Contains("lost", StringComparison.Ordinal)));

        // All at once, as DISCARD ALL does.
        sending.Before = "select pg_advisory_unlock_all()";
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, kept.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, granted.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
        await using var again = await pool.AcquireLockAsync(Key);
        Assert.True(await again.ReleaseAsync());
    }

    /// <summary>A release ends the hearing. Where it came while the hearing began, it was waited for until the trust ran out.</summary>
    [Fact]
    public async Task The_hearing_ends_whenever_it_is_cancelled()
    {
        await using var source = await SourceAsync("Maximum Pool Size=16");
        await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(async () =>
        {
            for (var round = 0; round < 500; round++)
            {
                await using var connection = await source.OpenConnectionAsync();
                var driver = (IListeningDriver)LockInterface.For(connection).Driver;
                using var end = new CancellationTokenSource();
                var hearing = Task.Run(() => driver.Hear(connection, static _ => { }, end.Token));
                for (var clock = Stopwatch.StartNew(); clock.Elapsed < TimeSpan.FromMicroseconds(Random.Shared.Next(400));)
                {
                    Thread.SpinWait(20);
                }

                await end.CancelAsync();
                await hearing.WaitAsync(TimeSpan.FromSeconds(30)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                Assert.True(hearing.IsCanceled, $"Round {round}: it is {hearing.Status}");
            }
        })));
    }

    [Fact]
    public async Task The_question_leaves_nothing_and_meets_no_release()
    {
        await using var source = await SourceAsync("Maximum Pool Size=60");
        await Task.WhenAll(Enumerable.Range(0, 50).Select(async n =>
        {
            var held = await source.AcquireLockAsync($"{Key.Name}{n}");
            await Task.Delay(400 + (15 * n));
            Assert.True(held.IsHeld);
            Assert.True(n % 2 == 0 ? await held.ReleaseAsync() : held.Release());
            Assert.False(held.Lost.IsCancellationRequested);
        }));
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync();
        Assert.Equal(0L, await observer.ExecuteAsync(
            $"select count(*) from pg_stat_activity where application_name like '{Key.Name}%'"
            + " and (xact_start is not null or state <> 'idle')"));
    }

    [Fact]
    public async Task A_lock_that_nobody_has_any_more_is_let_go_and_that_is_logged()
    {
        await using var source = await SourceAsync();
        var logger = new RecordingLogger();
        await AbandonAsync(source, logger);
        await TestServer.UntilAsync(
            async () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !await Server.IsHeldAsync(Key);
            },
            "the lock is free");
        await TestServer.UntilAsync(() => Task.FromResult(logger.Warnings.Any(line => line.Contains("was closed", StringComparison.Ordinal))), "its connection is closed");
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.Single(logger.Warnings, line => line.Contains("nobody has it any more", StringComparison.Ordinal));
        Assert.Contains(logger.Warnings, line => line.Contains("never disposed", StringComparison.Ordinal));

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync(NpgsqlDataSource source, RecordingLogger logger)
        {
            var held = await source.AcquireLockAsync(Key, options: new LockOptions { Logger = logger });
            Assert.True(await Server.IsHeldAsync(Key));
            GC.KeepAlive(held);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lock_on_a_callers_connection_that_nobody_has_any_more_is_logged_and_held_until_that_closes(bool async)
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var closing = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        var logger = new RecordingLogger();
        var throwing = new ActingLogger(() => throw new InvalidOperationException("a log that is full"));
        await AbandonAsync();
        await TestServer.UntilAsync(
            () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return Task.FromResult(logger.Warnings.Any(line => !line.Contains("closed", StringComparison.Ordinal)));
            },
            "it is logged");
        Assert.Contains("held until its connection closes", Assert.Single(logger.Warnings, line => !line.Contains("closed", StringComparison.Ordinal)), StringComparison.Ordinal);
        Assert.True(await Server.IsHeldByAsync(connection.ProcessID, Key));
        await connection.CloseAsync();
        await TestServer.UntilAsync(async () => !await Server.IsHeldAsync(Key), "the lock is free");

        // None of them is in the hands of anybody after this, and the first alone is held.
        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync()
        {
            var options = new LockOptions { Logger = logger };
            await new Lock(connection, Key, options: options).Acquire(async, TimeSpan.Zero);
            await new Lock(connection, Key.Name + ":throwing", options: new LockOptions { Logger = throwing }).Acquire(async, TimeSpan.Zero);
            var closed = new Lock(closing, Key.Name + ":closing", options: options);
            await closed.Acquire(async, TimeSpan.Zero);
            await closing.CloseAsync();

            // Another test's garbage collection must not find it before its connection is closed.
            GC.KeepAlive(closed);
            _ = new Lock(connection, Key.Name + ":unused", options: options);
            var released = new Lock(connection, Key.Name + ":released", options: options);
            await released.Acquire(async, TimeSpan.Zero);
            Assert.True(await released.Release(async));
            var disposed = new Lock(connection, Key.Name + ":disposed", options: options);
            await disposed.Acquire(async, TimeSpan.Zero);
            await disposed.DisposeAsync();
            await using var transaction = await connection.BeginTransactionAsync();
            var inTransaction = new Lock(connection, Key.Name + ":transaction", options: options with { Scope = LockScope.Transaction }) { Transaction = transaction };
            await inTransaction.Acquire(async, TimeSpan.Zero);
            await transaction.CommitAsync();
        }
    }

    [Fact]
    public async Task A_lock_says_what_was_noticed()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        var @lock = new Lock(connection, Key);
        @lock.ThrowIfLost();
        Assert.True(await @lock.AcquireAsync(block: false));
        @lock.ThrowIfLost();
        await connection.CloseAsync();
        Assert.Throws<LockLostException>(@lock.ThrowIfLost);

        await using var source = await SourceAsync();
        await using var pool = new LockPool(source);
        var held = await pool.AcquireLockAsync(Key);
        held.ThrowIfLost();
        await Server.KillHolderAsync(Key);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, held.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Throws<LockLostException>(held.ThrowIfLost);
    }

    private static async Task SignalAsync(string signal, int pid)
    {
        using var kill = Process.Start("kill", ["-" + signal, pid.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
    }

    // In the flow of this method it would wait for itself.
    private static Task<PooledLock> ByAnotherTask(LockPool pool, LockKey key)
    {
        using (ExecutionContext.SuppressFlow())
        {
            return Task.Run(() => pool.AcquireLockAsync(key).AsTask());
        }
    }

    private async Task<NpgsqlDataSource> SourceAsync(string more = "") =>
        NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Application Name={Key.Name};{more}");
}
