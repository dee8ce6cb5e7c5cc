using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Ending those who are in the way, and telling what became of them.</summary>
public sealed class ClearingTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(200);

    private string Unique { get; } = Guid.NewGuid().ToString("N");

    private long Number { get; } = Random.Shared.NextInt64();

    private PgLockFilter Holders => new() { Keys = [Number], Granted = true };

    private string App => "app_" + Unique;

    private string AsApp => $"Username={App};Password=app";

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_terminated_session_is_gone_and_its_lock_is_free(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var waiter = await sessions.OpenAsync();
        var waiting = await sessions.StartWaitingAsync(waiter, $"select pg_advisory_lock({Number})");
        var cleared = (await ClearAsync(observer, Holders, PgSignal.Terminate, null, async)).Single();
        Assert.Equal((PgClearOutcome.Ended, PgSignal.Terminate, (string?)null), (cleared.Outcome, cleared.Signal, cleared.Reason));
        Assert.Equal(holder.ProcessID, cleared.Session!.Pid);
        Assert.Contains("was terminated, and has ended", cleared.ToString(), StringComparison.Ordinal);
        await waiting;
        Assert.Equal("57P01", (await Assert.ThrowsAsync<PostgresException>(() => holder.ExecuteAsync("select 1"))).SqlState);
        Assert.Empty(await ClearAsync(observer, Holders with { Users = [App] }, PgSignal.Terminate, null, async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_cancelled_wait_lets_go_and_its_session_lives(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var waiter = await sessions.OpenAsync(AsApp);
        var waiting = await sessions.StartWaitingAsync(waiter, $"select pg_advisory_lock({Number})");
        var result = await ClearAsync(observer, new() { Keys = [Number], Granted = false }, PgSignal.Cancel, null, async);
        Assert.Equal((PgClearOutcome.LetGo, PgSignal.Cancel), (result.Single().Outcome, result.Single().Signal));
        Assert.True(result.IsClear);
        result.ThrowIfNotClear();
        Assert.Equal("57014", (await Assert.ThrowsAsync<PostgresException>(() => waiting)).SqlState);
        Assert.Equal(1, await waiter.ExecuteAsync("select 1"));
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Who_is_idle_in_a_transaction_does_not_notice_a_cancel_and_is_terminated_after_the_grace(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await sessions.OpenAsync(AsApp), await sessions.OpenAsync());
        await using var transaction = await holder.BeginTransactionAsync();
        await holder.ExecuteAsync($"select pg_advisory_xact_lock({Number})");
        var options = new PgClearOptions { Grace = Short };
        var cancelled = await ClearAsync(observer, Holders, PgSignal.Cancel, options, async);
        Assert.Equal((PgClearOutcome.Remains, PgSignal.Cancel), (cancelled.Single().Outcome, cancelled.Single().Signal));
        Assert.False(cancelled.IsClear);
        Assert.Contains("terminate it", Assert.Throws<LockException>(cancelled.ThrowIfNotClear).Message, StringComparison.Ordinal);
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        var ended = (await ClearAsync(observer, Holders, PgSignal.CancelThenTerminate, options, async)).Single();
        Assert.Equal((PgClearOutcome.Ended, PgSignal.Terminate, (string?)null), (ended.Outcome, ended.Signal, ended.Reason));
        Assert.Equal("57P01", (await Assert.ThrowsAsync<PostgresException>(() => holder.ExecuteAsync("select 1"))).SqlState);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_a_cancel_helps_with_is_not_terminated(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await sessions.OpenAsync(AsApp), await sessions.OpenAsync());
        var running = holder.ExecuteAsync($"select pg_advisory_xact_lock({Number}), pg_sleep(600)");
        await TestServer.UntilAsync(async () => (await observer.GetLocksAsync(Holders)).Count == 1, "the statement runs");
        var cleared = (await ClearAsync(observer, Holders, PgSignal.CancelThenTerminate, null, async)).Single();
        Assert.Equal((PgClearOutcome.LetGo, PgSignal.Cancel), (cleared.Outcome, cleared.Signal));
        Assert.Equal("57014", (await Assert.ThrowsAsync<PostgresException>(() => running)).SqlState);
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_dry_run_tells_and_does_nothing(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var logger = new RecordingLogger();
        var planned = await ClearAsync(observer, Holders, PgSignal.Terminate, new() { DryRun = true, Logger = logger }, async);
        Assert.Equal((PgClearOutcome.Planned, (PgSignal?)null), (planned.Single().Outcome, planned.Single().Signal));
        Assert.False(planned.IsClear);
        Assert.Empty(logger.Warnings);
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));

        // What was shown is what is hit.
        await observer.ClearLocksAsync(planned.Single().Locks, PgSignal.Terminate, new() { Logger = logger });
        Assert.Contains($"pid {holder.ProcessID}", Assert.Single(logger.Warnings), StringComparison.Ordinal);
        Assert.Empty(await observer.GetLocksAsync(Holders));
    }

    [Fact]
    public async Task A_process_id_that_was_used_again_is_not_hit()
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var looked = (await observer.GetLocksAsync(Holders)).Single();
        var before = looked with { Session = looked.Session! with { Since = looked.Session.Since!.Value.AddMicroseconds(-1) } };
        foreach (var signal in Enum.GetValues<PgSignal>())
        {
            Assert.Equal((PgClearOutcome.AlreadyGone, null), await OneAsync(observer, before, signal));
        }

        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
    }

    [Fact]
    public async Task Who_ended_or_let_go_between_the_look_and_the_signal_is_not_hit()
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var looked = (await observer.GetLocksAsync(Holders)).Single();
        await holder.ExecuteAsync($"select pg_advisory_unlock({Number}), pg_advisory_lock({Number} - 1)");
        Assert.Equal((PgClearOutcome.AlreadyGone, null), await OneAsync(observer, looked, PgSignal.Terminate));
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        looked = (await observer.GetLocksAsync(Holders)).Single();
        await holder.CloseAsync();
        await TestServer.UntilAsync(async () => (await observer.GetLocksAsync(Holders)).Count == 0, "the session has ended");
        Assert.Equal((PgClearOutcome.AlreadyGone, null), await OneAsync(observer, looked, PgSignal.CancelThenTerminate));
    }

    [Fact]
    public async Task What_is_told_is_so_whoever_comes_first()
    {
        const int Rounds = 300;
        await using var sessions = await StartAsync();
        var observer = await sessions.OpenAsync();
        var (holder, ended, gone, brink) = (await HoldAsync(sessions), 0, 0, new Brink());
        for (var round = 0; round < Rounds; round++)
        {
            var looked = await observer.GetLocksAsync(Holders);
            var clearing = observer.ClearLocksAsync(looked, PgSignal.Terminate);
            brink.Wait();
            var unlock = await Record.ExceptionAsync(() => holder.ExecuteAsync($"select pg_advisory_unlock({Number})"));
            var cleared = (await clearing).Single();
            var alive = unlock is null && await Record.ExceptionAsync(() => holder.ExecuteAsync("select 1")) is null;
            Assert.True(
                alive ? cleared is { Outcome: PgClearOutcome.AlreadyGone, Signal: null } : cleared is { Outcome: PgClearOutcome.Ended, Signal: PgSignal.Terminate },
                $"Round {round}: alive = {alive}, but it was told: {cleared}");
            (ended, gone) = alive ? (ended, gone + 1) : (ended + 1, gone);
            brink.Tell(otherCameFirst: alive);
            if (alive)
            {
                await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
            }
            else
            {
                holder = await HoldAsync(sessions);
            }
        }

        Assert.True(ended > 0 && gone > 0, $"It was no race: {ended} ended, {gone} had gone.");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_own_session_and_whom_the_options_spare_are_spared(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions, $"Application Name=spared {Unique}"), await sessions.OpenAsync());
        var super = await sessions.OpenAsync();
        foreach (var connection in new[] { super, observer })
        {
            await connection.ExecuteAsync($"select pg_advisory_lock({Number + 1})".Replace("_lock(", "_lock_shared(", StringComparison.Ordinal));
        }

        var mine = new PgLockFilter { Keys = [Number + 1] };
        var spared = await ClearAsync(observer, mine, PgSignal.Terminate, null, async);
        Assert.Equal(2, spared.Count);
        Assert.All(spared, session => Assert.Equal((PgClearOutcome.Spared, (PgSignal?)null), (session.Outcome, session.Signal)));
        Assert.Contains("IncludeSuperusers", spared.Single(session => session.Session!.Pid == super.ProcessID).Reason, StringComparison.Ordinal);
        Assert.Contains("the session that asks", spared.Single(session => session.Session!.Pid == observer.ProcessID).Reason, StringComparison.Ordinal);
        foreach (var options in new PgClearOptions[] { new() { ExceptUsers = [App] }, new() { ExceptApplications = [$"spared {Unique}"] } })
        {
            Assert.Equal(PgClearOutcome.Spared, (await ClearAsync(observer, Holders, PgSignal.Terminate, options, async)).Single().Outcome);
        }

        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        Assert.Equal(1, await super.ExecuteAsync("select 1"));
        var forced = await ClearAsync(observer, mine, PgSignal.Terminate, new() { IncludeSuperusers = true }, async);
        Assert.Equal(PgClearOutcome.Ended, forced.Single(session => session.Session!.Pid == super.ProcessID).Outcome);
        Assert.Equal(PgClearOutcome.Spared, forced.Single(session => session.Session!.Pid == observer.ProcessID).Outcome);
    }

    [Theory]
    [InlineData("walsender", "IncludeReplication")]
    [InlineData("logical replication apply worker", "IncludeReplication")]
    [InlineData("autovacuum worker", "IncludeAutovacuum")]
    [InlineData("checkpointer", "the server's own")]
    public async Task Processes_of_the_server_are_spared(string type, string reason)
    {
        await using var sessions = await StartAsync();
        var (holder, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var looked = (await observer.GetLocksAsync(Holders)).Single();
        looked = looked with { Session = looked.Session! with { BackendType = type } };
        var spared = (await observer.ClearLocksAsync([looked], PgSignal.Terminate, new() { IncludeSuperusers = true })).Single();
        Assert.Equal(PgClearOutcome.Spared, spared.Outcome);
        Assert.Contains(reason, spared.Reason, StringComparison.Ordinal);
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        var asked = new PgClearOptions { IncludeReplication = true, IncludeAutovacuum = true };
        var expected = type == "checkpointer" ? PgClearOutcome.Spared : PgClearOutcome.Ended;
        Assert.Equal(expected, (await observer.ClearLocksAsync([looked], PgSignal.Terminate, asked)).Single().Outcome);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_role_without_rights_is_told_which_it_lacks(bool async)
    {
        await using var sessions = await StartAsync();
        var (holder, observer, administrator) = (await HoldAsync(sessions), await sessions.OpenAsync(), await sessions.OpenAsync());
        var role = "weak_" + Unique;
        await administrator.ExecuteAsync($"create role {role}");
        await observer.ExecuteAsync($"set role {role}");
        var blind = (await ClearAsync(observer, Holders, PgSignal.Terminate, null, async)).Single();
        Assert.Equal((PgClearOutcome.Refused, (PgSignal?)null), (blind.Outcome, blind.Signal));
        Assert.Contains("pg_read_all_stats", blind.Reason, StringComparison.Ordinal);
        await administrator.ExecuteAsync($"grant pg_read_all_stats to {role}");
        await using (var transaction = await observer.BeginTransactionAsync())
        {
            foreach (var dry in new[] { true, false })
            {
                var weak = await ClearAsync(observer, Holders, PgSignal.CancelThenTerminate, new() { DryRun = dry }, async);
                Assert.Equal((PgClearOutcome.Refused, (PgSignal?)null), (weak.Single().Outcome, weak.Single().Signal));
                var error = Assert.Throws<LockException>(weak.ThrowIfNotClear);
                Assert.Contains($"role '{role}' may not signal sessions of role '{App}': grant it that role, or pg_signal_backend", error.Message, StringComparison.Ordinal);
            }

            Assert.Equal(1, await observer.ExecuteAsync("select 1"));
        }

        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        var super = await sessions.OpenAsync();
        await super.ExecuteAsync($"select pg_advisory_lock({Number} + 1)");
        await administrator.ExecuteAsync($"grant pg_signal_backend to {role}");
        var strong = (await ClearAsync(observer, new() { Keys = [Number + 1] }, PgSignal.Terminate, new() { IncludeSuperusers = true }, async)).Single();
        Assert.Equal(PgClearOutcome.Refused, strong.Outcome);
        Assert.Contains("only a superuser", strong.Reason, StringComparison.Ordinal);
        Assert.Equal(PgClearOutcome.Ended, (await ClearAsync(observer, Holders, PgSignal.Terminate, null, async)).Single().Outcome);
        await observer.ExecuteAsync("reset role");
        await administrator.ExecuteAsync($"drop role {role}");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task More_sessions_than_allowed_are_none(bool async)
    {
        await using var sessions = await StartAsync();
        var observer = await sessions.OpenAsync();
        var holders = new List<NpgsqlConnection>();
        for (var i = 0; i < 3; i++)
        {
            holders.Add(await sessions.OpenAsync(AsApp));
            await holders[i].ExecuteAsync($"select pg_advisory_lock_shared({Number})");
        }

        var error = await Assert.ThrowsAsync<LockException>(() => ClearAsync(observer, Holders, PgSignal.Terminate, new() { MaxSessions = 2 }, async));
        Assert.Contains("3 sessions would be signalled", error.Message, StringComparison.Ordinal);
        Assert.Equal(3, (await observer.GetLocksAsync(Holders)).Count);
        Assert.Equal(3, (await ClearAsync(observer, Holders, PgSignal.Terminate, new() { MaxSessions = 3 }, async)).Count(session => session.Outcome == PgClearOutcome.Ended));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_own_session_is_spared_too_when_another_has_looked(bool async)
    {
        await using var sessions = await StartAsync();
        var (own, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var looked = await observer.GetLocksAsync(Holders);
        var spared = (async ? await own.ClearLocksAsync(looked, PgSignal.Terminate) : own.ClearLocks(looked, PgSignal.Terminate)).Single();
        Assert.Equal((PgClearOutcome.Spared, (PgSignal?)null), (spared.Outcome, spared.Signal));
        Assert.Equal(1, await own.ExecuteAsync("select 1"));
    }

    [Theory, InlineData(PgSignal.Cancel), InlineData(PgSignal.CancelThenTerminate)]
    public async Task Who_was_cancelled_and_queues_again_has_let_go(PgSignal signal)
    {
        await using var sessions = await StartAsync();
        var (observer, holder, next) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync(AsApp));
        var running = holder.ExecuteAsync($"select pg_advisory_xact_lock({Number}), pg_sleep(600)");
        await TestServer.UntilAsync(async () => (await observer.GetLocksAsync(Holders)).Count == 1, "the statement runs");
        var granted = await sessions.StartWaitingAsync(next, $"select pg_advisory_lock({Number})");
        var looked = await observer.GetLocksAsync(Holders);
        await observer.ExecuteAsync($"select pg_cancel_backend({holder.ProcessID})");
        await Assert.ThrowsAsync<PostgresException>(() => running);
        var again = await sessions.StartWaitingAsync(holder, $"select pg_advisory_lock({Number})");
        var cleared = (await observer.ClearLocksAsync(looked, signal)).Single();
        Assert.Equal((PgClearOutcome.AlreadyGone, (PgSignal?)null), (cleared.Outcome, cleared.Signal));

        // Npgsql may hang when a connection is closed while its answer is being read.
        await granted;
        await next.CloseAsync();
        await again;
    }

    [Fact]
    public async Task Who_waited_and_was_granted_meanwhile_is_not_hit_as_a_holder()
    {
        await using var sessions = await StartAsync();
        var (holder, waiter, observer) = (await HoldAsync(sessions), await sessions.OpenAsync(AsApp), await sessions.OpenAsync());
        var waiting = await sessions.StartWaitingAsync(waiter, $"select pg_advisory_lock({Number})");
        var looked = await observer.GetLocksAsync(new PgLockFilter { Keys = [Number], Granted = false });
        await holder.ExecuteAsync("select pg_advisory_unlock_all()");
        await waiting;
        Assert.Equal((PgClearOutcome.AlreadyGone, null), await OneAsync(observer, looked.Single(), PgSignal.Terminate));
        Assert.Equal(1, await waiter.ExecuteAsync("select 1"));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_transaction_with_a_short_statement_timeout_and_an_old_view_of_the_sessions_survives(bool async)
    {
        await using var sessions = await StartAsync();
        var observer = await sessions.OpenAsync();
        await using var transaction = await observer.BeginTransactionAsync();
        await observer.ExecuteAsync("select count(*) from pg_stat_activity");
        var holder = await HoldAsync(sessions);
        await observer.ExecuteAsync("set local statement_timeout = '200ms'");
        var remains = await ClearAsync(observer, Holders, PgSignal.Cancel, new() { Grace = TimeSpan.FromSeconds(1) }, async);
        Assert.Equal((PgClearOutcome.Remains, PgSignal.Cancel), (remains.Single().Outcome, remains.Single().Signal));
        Assert.Equal(PgClearOutcome.Ended, (await ClearAsync(observer, Holders, PgSignal.Terminate, null, async)).Single().Outcome);
        Assert.Equal(1, await observer.ExecuteAsync("select 1"));
        await Assert.ThrowsAsync<PostgresException>(() => holder.ExecuteAsync("select 1"));
    }

    [Fact]
    public async Task One_process_id_of_two_sessions_is_two_cases()
    {
        await using var sessions = await StartAsync();
        var (_, observer) = (await HoldAsync(sessions), await sessions.OpenAsync());
        var now = (await observer.GetLocksAsync(Holders)).Single();
        var before = now with { Session = now.Session! with { Since = now.Session.Since!.Value.AddSeconds(-5) } };
        var cleared = await observer.ClearLocksAsync([before, now], PgSignal.Terminate);
        Assert.Equal([PgClearOutcome.AlreadyGone, PgClearOutcome.Ended], cleared.Select(session => session.Outcome));
    }

    [Fact]
    public async Task What_makes_no_sense_is_refused()
    {
        await using var sessions = new Sessions();
        var observer = await sessions.OpenAsync();
        Assert.Contains("every session", Assert.Throws<ArgumentException>(() => observer.ClearLocks(new PgLockFilter(), PgSignal.Terminate)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => observer.ClearLocks(Holders, (PgSignal)7));
        Assert.Throws<ArgumentOutOfRangeException>(() => observer.ClearLocks(Holders, PgSignal.Cancel, new() { Grace = TimeSpan.FromTicks(-1) }));
        Assert.Throws<ArgumentOutOfRangeException>(() => observer.ClearLocks(Holders, PgSignal.Cancel, new() { Grace = TimeSpan.FromDays(2) }));
        Assert.Throws<ArgumentNullException>(() => observer.ClearLocks((PgLockFilter)null!, PgSignal.Cancel));
        Assert.Empty(await observer.ClearLocksAsync(new PgLockFilter { Pids = [] }, PgSignal.Terminate));
    }

    [Fact]
    public async Task A_prepared_transaction_has_no_session_and_its_end_is_told()
    {
        await using var sessions = new Sessions();
        var observer = await sessions.OpenAsync();
        if ((string)(await observer.ExecuteAsync("show max_prepared_transactions"))! == "0")
        {
            return;
        }

        await observer.ExecuteAsync($"begin; select pg_advisory_xact_lock({Number}); prepare transaction 'p''{Unique}'");
        var refused = (await observer.ClearLocksAsync(Holders, PgSignal.Terminate)).Single();
        Assert.Equal((PgClearOutcome.Refused, (PgSession?)null), (refused.Outcome, refused.Session));
        Assert.Contains($"ROLLBACK PREPARED 'p''{Unique}'", refused.Reason, StringComparison.Ordinal);
        await observer.ExecuteAsync($"rollback prepared 'p''{Unique}'");
    }

    [Fact]
    public async Task The_same_key_in_another_database_is_another_lock()
    {
        var database = "second_" + Unique;
        await using var sessions = await StartAsync();
        var observer = await sessions.OpenAsync();
        await observer.ExecuteAsync($"create database {database}");
        await using (var elsewhere = new Sessions())
        {
            var (here, there) = (await HoldAsync(sessions), await elsewhere.OpenAsync($"Database={database};{AsApp}"));
            await there.ExecuteAsync($"select pg_advisory_lock({Number})");
            Assert.Equal(here.ProcessID, (await observer.ClearLocksAsync(Holders, PgSignal.Terminate)).Single().Session!.Pid);
            Assert.Equal(1, await there.ExecuteAsync("select 1"));

            // From a data source, of the other database.
            await using var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString + $";Database={database}");
            Assert.Equal(there.ProcessID, source.ClearLocks(Holders, PgSignal.Cancel, new() { DryRun = true }).Single().Session!.Pid);
            Assert.Equal(PgClearOutcome.Ended, (await source.ClearLocksAsync(Holders, PgSignal.Terminate)).Single().Outcome);
        }

        await observer.ExecuteAsync($"drop database {database} with (force)");
    }

    private static Task<PgClearResult> ClearAsync(NpgsqlConnection connection, PgLockFilter filter, PgSignal signal, PgClearOptions? options, bool async) =>
        async ? connection.ClearLocksAsync(filter, signal, options) : Task.FromResult(connection.ClearLocks(filter, signal, options));

    private static async Task<(PgClearOutcome, PgSignal?)> OneAsync(NpgsqlConnection connection, PgLock @lock, PgSignal signal)
    {
        var cleared = (await connection.ClearLocksAsync([@lock], signal)).Single();
        return (cleared.Outcome, cleared.Signal);
    }

    private async Task<Sessions> StartAsync()
    {
        var sessions = new Sessions();
        sessions.Roles.Add(App);
        await (await sessions.OpenAsync()).ExecuteAsync($"create role {App} login password 'app'");
        return sessions;
    }

    private async Task<NpgsqlConnection> HoldAsync(Sessions sessions, string more = "")
    {
        var holder = await sessions.OpenAsync($"{AsApp};{more}");
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        return holder;
    }
}
