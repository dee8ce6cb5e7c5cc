using System.Collections;
using System.Diagnostics;
using System.Reflection;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A session that is let through by those who hold what it waits for.</summary>
public sealed class PriorityTests
{
    private static readonly PgPriorityOptions Fast = new() { Interval = TimeSpan.FromMilliseconds(20) };

    private string Unique { get; } = Guid.NewGuid().ToString("N");

    private long Number { get; } = Random.Shared.NextInt64(long.MaxValue - 10);

    private string App => "app_" + Unique;

    private string AsApp => $"Username={App};Password=app;Application Name={App}";

    [Theory, InlineData(false), InlineData(true)]
    public async Task Whoever_holds_the_table_is_terminated_while_idle_in_transaction(bool async)
    {
        await using var sessions = await StartAsync();
        var (migration, holder) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp));
        await migration.ExecuteAsync($"create table t_{Unique} (n int); grant all on t_{Unique} to {App}");
        await using var transaction = await holder.BeginTransactionAsync();
        await holder.ExecuteAsync($"insert into t_{Unique} values (1)");
        await using var priority = await StartAsync(migration, Fast, async);
        await migration.ExecuteAsync($"alter table t_{Unique} add m int");
        var cleared = (await priority.StopAsync()).Single();
        Assert.Equal((PgClearOutcome.Ended, PgSignal.Terminate, holder.ProcessID), (cleared.Outcome, cleared.Signal, cleared.Session!.Pid));
        Assert.Equal($"t_{Unique}", cleared.Locks.Single().Relation);
        Assert.Equal("57P01", (await Assert.ThrowsAsync<PostgresException>(() => holder.ExecuteAsync("select 1"))).SqlState);
        await migration.ExecuteAsync($"drop table t_{Unique}");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task An_advisory_lock_is_fought_for_too_as_often_as_it_is_waited_for(bool async)
    {
        await using var sessions = await StartAsync();
        var body = await sessions.OpenAsync();
        await using var priority = await StartAsync(body, Fast, async);
        for (var round = 0; round < 3; round++)
        {
            var holder = await sessions.OpenAsync(AsApp);
            await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
            await using var @lock = new Lock(body, Number);
            Assert.True(await @lock.AcquireAsync(TimeSpan.FromMinutes(1)));
            Assert.True(await @lock.ReleaseAsync());
        }

        Assert.All(await priority.StopAsync(), session => Assert.Equal(PgClearOutcome.Ended, session.Outcome));
        Assert.Equal(3, priority.Cleared.Count);
        Assert.Null(priority.Error);
    }

    [Fact]
    public async Task Those_who_are_ahead_in_the_queue_are_innocent()
    {
        await using var sessions = await StartAsync();
        var (body, holder) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp));
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        var ahead = new List<Task>();
        for (var i = 0; i < 3; i++)
        {
            var waiter = await sessions.OpenAsync(AsApp);
            ahead.Add(await sessions.StartWaitingAsync(waiter, $"select pg_advisory_xact_lock({Number})"));
        }

        // One look, at once.
        var waiting = await sessions.StartWaitingAsync(body, $"select pg_advisory_lock({Number})");
        await using var priority = await body.PrioritizeAsync(Fast with { Interval = TimeSpan.FromHours(1) });
        await waiting;
        await Task.WhenAll(ahead);
        Assert.Equal(holder.ProcessID, (await priority.StopAsync()).Single().Session!.Pid);
    }

    [Fact]
    public async Task A_deadlock_is_left_to_the_server_and_the_body_is_not_hit()
    {
        await using var sessions = await StartAsync();
        var (administrator, body, other) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync(AsApp));
        await administrator.ExecuteAsync($"grant pg_signal_backend, pg_read_all_stats to {App}");
        await body.ExecuteAsync($"select pg_advisory_lock({Number})");
        await other.ExecuteAsync($"select pg_advisory_lock({Number + 1})");
        await sessions.StartWaitingAsync(other, $"select pg_advisory_lock({Number})");
        var blocker = other.ProcessID;
        await using var priority = await body.PrioritizeAsync(Fast with { BlockersOfBlockers = true });
        await body.ExecuteAsync($"select pg_advisory_lock({Number + 1})");
        Assert.Equal(blocker, (await priority.StopAsync()).Single().Session!.Pid);
    }

    [Fact]
    public async Task Who_has_a_lock_that_the_body_has_given_up_is_left_alone_and_the_next_wait_is_served()
    {
        await using var sessions = await StartAsync();
        var (body, first, second, logger) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync(AsApp), new RecordingLogger());
        await first.ExecuteAsync($"select pg_advisory_lock({Number})");
        var running = second.ExecuteAsync($"select pg_advisory_xact_lock({Number + 1}), pg_sleep(600)");
        await using var priority = await body.PrioritizeAsync(Fast with { Signal = PgSignal.CancelThenTerminate, Clear = new() { Grace = TimeSpan.FromHours(1), Logger = logger } });
        var given = await sessions.StartWaitingAsync(body, $"select pg_advisory_lock({Number})");
        await TestServer.UntilAsync(() => Task.FromResult(logger.Warnings.Any()), "the first is cancelled in vain");
        await sessions.CancelAsync(body);
        await Assert.ThrowsAsync<PostgresException>(() => given);

        // Its grace is an hour.
        await body.ExecuteAsync($"select pg_advisory_lock({Number + 1})");
        await Assert.ThrowsAsync<PostgresException>(() => running);
        var cleared = (await priority.StopAsync()).ToDictionary(session => session.Session!.Pid);
        Assert.Equal((PgClearOutcome.NotNeeded, PgSignal.Cancel), (cleared[first.ProcessID].Outcome, cleared[first.ProcessID].Signal));
        Assert.Equal((PgClearOutcome.LetGo, PgSignal.Cancel), (cleared[second.ProcessID].Outcome, cleared[second.ProcessID].Signal));
        Assert.Equal(1, await first.ExecuteAsync("select 1"));
    }

    [Fact]
    public async Task A_signal_that_was_sent_stays_in_the_report()
    {
        await using var sessions = await StartAsync();
        var (body, holder) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp));
        var running = holder.ExecuteAsync($"select pg_advisory_xact_lock({Number}), pg_sleep(600)");
        await using var priority = await body.PrioritizeAsync(Fast with { Signal = PgSignal.Cancel, Clear = new() { ExceptApplications = ["spared"] } });
        await TestServer.UntilAsync(async () => !(bool)(await body.ExecuteAsync($"select pg_try_advisory_xact_lock({Number})"))!, "the holder runs");
        await body.ExecuteAsync($"select pg_advisory_xact_lock({Number})");
        await Assert.ThrowsAsync<PostgresException>(() => running);
        await holder.ExecuteAsync($"set application_name = 'spared'; select pg_advisory_lock({Number})");
        await Assert.ThrowsAsync<PostgresException>(() => body.ExecuteAsync($"set lock_timeout = '100ms'; select pg_advisory_lock({Number})"));
        Assert.Equal(PgSignal.Cancel, (await priority.StopAsync()).Single().Signal);
    }

    [Fact]
    public async Task A_worker_of_the_bodys_parallel_query_is_let_through()
    {
        await using var sessions = await StartAsync();
        var (body, holder, administrator) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync());
        var force = body.PostgreSqlVersion.Major >= 16 ? "debug_parallel_query" : "force_parallel_mode";
        await body.ExecuteAsync($"create table a_{Unique} as select 1 as n; create table b_{Unique} (n int); grant all on b_{Unique} to {App}");
        await body.ExecuteAsync($"""
            create function f_{Unique}() returns bigint language plpgsql parallel safe as $$ begin return (select count(*) from b_{Unique}); end $$; set {force} = on
            """);
        await holder.ExecuteAsync($"begin; lock table b_{Unique}");
        await using var priority = await body.PrioritizeAsync(Fast);
        await body.ExecuteAsync($"select f_{Unique}() from a_{Unique}");
        Assert.Equal(holder.ProcessID, (await priority.StopAsync()).Single().Session!.Pid);
        await administrator.ExecuteAsync($"drop function f_{Unique}; drop table a_{Unique}, b_{Unique}");
    }

    [Fact]
    public async Task The_second_connection_goes_to_the_same_server_and_leaves_nothing_in_the_process()
    {
        var one = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        var pools = typeof(NpgsqlConnection).Assembly.GetType("Npgsql.PoolManager")!.GetProperty("Pools", BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)?.GetValue(null)
            ?? typeof(NpgsqlConnection).Assembly.GetType("Npgsql.PoolManager")!.GetField("Pools", BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)!.GetValue(null)!;
        var several = new NpgsqlConnectionStringBuilder(one.ConnectionString)
        {
            Host = $"{one.Host}:{one.Port},{one.Host}:{one.Port}",
            TargetSessionAttributes = "primary",
            Password = null,
            Pooling = false,
            ApplicationName = "priority " + Guid.NewGuid(),
        };
        var builder = new NpgsqlDataSourceBuilder(several.ConnectionString);
        builder.UsePasswordProvider(_ => one.Password!, (_, _) => ValueTask.FromResult(one.Password!));
        await using var source = builder.BuildMultiHost();
        for (var round = 0; round < 20; round++)
        {
            await using var body = await source.OpenConnectionAsync();
            await using (var priority = await StartAsync(body, Fast, async: round % 2 == 0))
            {
                Assert.Empty(await priority.StopAsync());
            }
        }

        Assert.DoesNotContain(((IDictionary)pools).Keys.Cast<string>(), pool => pool.Contains(several.ApplicationName, StringComparison.Ordinal));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Blockers_of_blockers_are_hit_only_when_asked(bool asked)
    {
        await using var sessions = await StartAsync();
        var (body, middle, end) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync(AsApp));
        await end.ExecuteAsync($"select pg_advisory_lock({Number + 1})");
        await middle.ExecuteAsync($"select pg_advisory_lock({Number})");
        await sessions.StartWaitingAsync(middle, $"select pg_advisory_lock({Number + 1})");
        int[] meant = asked ? [middle.ProcessID, end.ProcessID] : [middle.ProcessID];
        await using var priority = await body.PrioritizeAsync(Fast with { BlockersOfBlockers = asked });
        await body.ExecuteAsync($"select pg_advisory_lock({Number})");
        Assert.Equal(meant.Order(), (await priority.StopAsync()).Select(session => session.Session!.Pid).Order());
        Assert.Equal(asked, await Record.ExceptionAsync(() => end.ExecuteAsync("select 1")) is PostgresException { SqlState: "57P01" });
    }

    [Fact]
    public async Task Nobody_is_hit_while_nobody_waits_nor_after_the_end()
    {
        await using var sessions = await StartAsync();
        var (body, holder, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync());
        await body.ExecuteAsync($"select pg_advisory_lock({Number + 1})");
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        var other = await sessions.OpenWaitingAsync($"select pg_advisory_lock({Number})");
        await using (await body.PrioritizeAsync(Fast))
        {
            // It has looked a few times.
            await UntilAsync(observer, $"select query_start > clock_timestamp() - interval '1 s' and backend_start < clock_timestamp() - interval '0.2 s' from {Side(body)}");
            Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        }

        // Its session has ended with it, and nobody is left who could signal.
        await UntilAsync(observer, $"select not exists (select from {Side(body)})");
        var waiting = await sessions.StartWaitingAsync(body, $"select pg_advisory_lock({Number})");
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        await holder.ExecuteAsync("select pg_advisory_unlock_all()");
        await UntilAsync(observer, $"select exists (select from pg_locks where granted and pid = {other.ProcessID} and locktype = 'advisory')");
        Assert.False(waiting.IsCompleted);
    }

    [Fact]
    public async Task Only_who_matches_the_filter_is_hit()
    {
        await using var sessions = await StartAsync();
        var (body, meant, spared) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp), await sessions.OpenAsync($"{AsApp} too"));
        await meant.ExecuteAsync($"select pg_advisory_lock_shared({Number})");
        await spared.ExecuteAsync($"select pg_advisory_lock_shared({Number})");
        await using var priority = await body.PrioritizeAsync(Fast with { Filter = new() { Applications = [App], MinStateAge = TimeSpan.Zero } });
        var waiting = await sessions.StartWaitingAsync(body, $"select pg_advisory_lock({Number})");
        await TestServer.UntilAsync(() => Task.FromResult(priority.Cleared.Count == 1), "the one who is meant is hit");
        await spared.ExecuteAsync("select pg_advisory_unlock_all()");
        await waiting;
        Assert.Equal(meant.ProcessID, (await priority.StopAsync()).Single().Session!.Pid);
    }

    [Fact]
    public async Task A_cancel_does_not_move_who_is_idle_and_the_report_says_so()
    {
        await using var sessions = await StartAsync();
        var (body, holder) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp));
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        var logger = new RecordingLogger();
        await using var priority = await body.PrioritizeAsync(Fast with { Signal = PgSignal.Cancel, Clear = new() { Grace = TimeSpan.FromMilliseconds(20), Logger = logger } });
        var waiting = await sessions.StartWaitingAsync(body, $"select pg_advisory_lock({Number})");
        await TestServer.UntilAsync(() => Task.FromResult(logger.Warnings.Count() > 2), "it was cancelled in vain");
        var remains = priority.Cleared.Single();
        Assert.Equal((PgClearOutcome.Remains, PgSignal.Cancel), (remains.Outcome, remains.Signal));
        Assert.Contains("terminate it", remains.Reason, StringComparison.Ordinal);
        await holder.ExecuteAsync("select pg_advisory_unlock_all()");
        await waiting;
    }

    [Fact]
    public async Task The_end_of_the_scope_comes_before_the_end_of_the_grace()
    {
        await using var sessions = await StartAsync();
        var (body, holder) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp));
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        var logger = new RecordingLogger();
        var priority = await body.PrioritizeAsync(Fast with { Signal = PgSignal.CancelThenTerminate, Clear = new() { Grace = TimeSpan.FromHours(1), Logger = logger } });
        await using (priority)
        {
            await sessions.StartWaitingAsync(body, $"select pg_advisory_lock({Number})");
            await TestServer.UntilAsync(() => Task.FromResult(logger.Warnings.Any()), "it was cancelled");
        }

        Assert.Equal((PgClearOutcome.Remains, PgSignal.Cancel), (priority.Cleared.Single().Outcome, priority.Cleared.Single().Signal));
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
    }

    [Fact]
    public async Task Who_is_spared_or_may_not_be_signalled_is_in_the_report()
    {
        await using var sessions = await StartAsync();
        var (body, super, administrator) = (await sessions.OpenAsync(AsApp), await sessions.OpenAsync("Application Name=important"), await sessions.OpenAsync());
        await super.ExecuteAsync($"select pg_advisory_lock({Number})");
        foreach (var (right, options, outcome, reason) in new[]
        {
            ("", new PgClearOptions(), PgClearOutcome.Refused, "grant pg_read_all_stats"),
            ("pg_read_all_stats", new PgClearOptions(), PgClearOutcome.Spared, "IncludeSuperusers"),
            ("pg_signal_backend", new PgClearOptions { IncludeSuperusers = true }, PgClearOutcome.Refused, "only a superuser"),
            ("", new PgClearOptions { IncludeSuperusers = true, ExceptUsers = ["postgres"] }, PgClearOutcome.Spared, "ExceptUsers"),
            ("", new PgClearOptions { IncludeSuperusers = true, ExceptApplications = ["important"] }, PgClearOutcome.Spared, "ExceptApplications"),
        })
        {
            await (right.Length > 0 ? administrator.ExecuteAsync($"grant {right} to {App}") : Task.CompletedTask);
            await using var priority = await body.PrioritizeAsync(Fast with { Clear = options });
            await using var @lock = new Lock(body, Number);
            using var cancel = new CancellationTokenSource();
            var waiting = @lock.AcquireAsync(cancel.Token).AsTask();
            await TestServer.UntilAsync(() => Task.FromResult(priority.Cleared.Count == 1), "it is reported");
            await cancel.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
            var reported = (await priority.StopAsync()).Single();
            Assert.Equal((outcome, (PgSignal?)null), (reported.Outcome, reported.Signal));
            Assert.Contains(reason, reported.Reason, StringComparison.Ordinal);
        }

        Assert.Equal(1, await super.ExecuteAsync("select 1"));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task What_goes_wrong_beside_the_body_is_told_and_hides_nothing(bool async)
    {
        await using var sessions = await StartAsync();
        var (body, observer, logger) = (await sessions.OpenAsync(), await sessions.OpenAsync(), new RecordingLogger());
        PgPriority? priority = null;
        await Assert.ThrowsAsync<DivideByZeroException>(async () =>
        {
            await using (priority = await StartAsync(body, Fast with { Clear = new() { Logger = logger } }, async))
            {
                await observer.ExecuteAsync($"select pg_terminate_backend(pid) from {Side(body)}");
                await TestServer.UntilAsync(() => Task.FromResult(priority.Error is not null), "it was noticed");
                throw new DivideByZeroException();
            }
        });
        Assert.IsType<PostgresException>(priority!.Error);
        Assert.Contains("no longer looked for", Assert.Single(logger.Warnings), StringComparison.Ordinal);
        var error = await Assert.ThrowsAsync<LockException>(priority.StopAsync);
        Assert.Same(priority.Error, error.InnerException);
        Assert.Equal(1, await body.ExecuteAsync("select 1"));
    }

    [Fact]
    public async Task What_cannot_be_given_priority_is_refused_at_once()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        foreach (var mode in new[] { "session", "transaction" })
        {
            await using var pooler = await PgBouncer.StartAsync(server, mode);
            await using var pooled = new NpgsqlConnection(pooler.ConnectionString + ";Pooling=false");
            await pooled.OpenAsync();
            Assert.Contains("pooler", (await Assert.ThrowsAsync<LockException>(() => pooled.PrioritizeAsync(Fast))).Message, StringComparison.Ordinal);
            Assert.Contains("pooler", Assert.Throws<LockException>(() => pooled.Prioritize(Fast)).Message, StringComparison.Ordinal);
        }

        await using var multiplexed = new NpgsqlConnection(server.ConnectionString + ";Multiplexing=true");
        await multiplexed.OpenAsync();
        Assert.Contains("Multiplexing", (await Assert.ThrowsAsync<LockException>(() => multiplexed.PrioritizeAsync(Fast))).Message, StringComparison.Ordinal);
        await using var connection = new NpgsqlConnection(server.ConnectionString);
        Assert.Contains("not open", Assert.Throws<InvalidOperationException>(() => connection.Prioritize()).Message, StringComparison.Ordinal);
        await connection.OpenAsync();
        foreach (var interval in new[] { TimeSpan.Zero, TimeSpan.FromMilliseconds(-1), TimeSpan.FromDays(2) })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => connection.Prioritize(new() { Interval = interval }));
        }

        foreach (var filter in new PgLockFilter[] { new() { Granted = false }, new() { MinWait = TimeSpan.Zero } })
        {
            Assert.Throws<ArgumentException>(() => connection.Prioritize(new() { Filter = filter }));
        }

        // A pool that is exhausted does not keep it out.
        await using var alone = new NpgsqlConnection(server.ConnectionString + ";Maximum Pool Size=1;Timeout=2");
        await alone.OpenAsync();
        await using var priority = await alone.PrioritizeAsync(Fast);
        Assert.Empty(await priority.StopAsync());
    }

    [Fact]
    public async Task It_works_in_any_database_and_over_a_data_source()
    {
        var database = "Second " + Unique;
        await using var sessions = await StartAsync();
        var observer = await sessions.OpenAsync();
        await observer.ExecuteAsync($"create database \"{database}\"");
        await using (var elsewhere = new Sessions())
        {
            var holder = await elsewhere.OpenAsync($"Database={database};{AsApp}");
            await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
            await using var source = NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString + $";Pooling=false;Database={database}");
            await using var body = await source.OpenConnectionAsync();
            await using var priority = await body.PrioritizeAsync(Fast with { Filter = new() { Keys = [Number] } });
            await body.ExecuteAsync($"select pg_advisory_lock({Number})");
            Assert.Equal(holder.ProcessID, (await priority.StopAsync()).Single().Session!.Pid);
        }

        await observer.ExecuteAsync($"drop database \"{database}\" with (force)");
    }

    [Fact]
    public async Task Who_lets_go_in_the_same_instant_is_told_rightly()
    {
        const int Rounds = 200;
        await using var sessions = await StartAsync();
        var (body, holder) = (await sessions.OpenAsync(), await sessions.OpenAsync(AsApp));
        var (survived, ended, brink) = (0, 0, new Brink());
        for (var round = 0; round < Rounds; round++)
        {
            await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
            await using var priority = await body.PrioritizeAsync(Fast with { Interval = TimeSpan.FromMilliseconds(10) });
            var waiting = body.ExecuteAsync($"select pg_advisory_lock({Number})");
            brink.Wait();

            await Record.ExceptionAsync(() => holder.ExecuteAsync($"select pg_advisory_unlock({Number})"));
            await waiting;
            await body.ExecuteAsync($"select pg_advisory_unlock({Number})");
            var told = (await priority.StopAsync()).SingleOrDefault();
            var alive = await Record.ExceptionAsync(() => holder.ExecuteAsync("select 1")) is null;
            Assert.True(alive ? told?.Signal is null : told is { Signal: PgSignal.Terminate, Outcome: PgClearOutcome.Ended }, $"Round {round}: alive = {alive}, told: {told}");
            (survived, ended) = alive ? (survived + 1, ended) : (survived, ended + 1);
            brink.Tell(otherCameFirst: alive);
            holder = alive ? holder : await sessions.OpenAsync(AsApp);
        }

        Assert.True(survived > 0 && ended > 0, $"It was no race: {survived} survived, {ended} ended.");
    }

    private static async Task<PgPriority> StartAsync(NpgsqlConnection connection, PgPriorityOptions options, bool async) =>
        async ? await connection.PrioritizeAsync(options) : connection.Prioritize(options);

    // The second connection.
    private static string Side(NpgsqlConnection body) =>
        $"(select s.* from pg_stat_activity as s where s.application_name = 'dblock-priority {body.ProcessID}') as side";

    private static Task UntilAsync(NpgsqlConnection observer, string sql) => TestServer.UntilAsync(async () => await observer.ExecuteAsync(sql) is true, sql);

    private async Task<Sessions> StartAsync()
    {
        var sessions = new Sessions();
        sessions.Roles.Add(App);
        await (await sessions.OpenAsync()).ExecuteAsync($"create role {App} login password 'app'");
        return sessions;
    }
}
