using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>What PostgreSQL's locks look like from outside, and who waits for whom.</summary>
public sealed class InspectionTests
{
    /// <summary>Gets names that are easily got wrong.</summary>
    public static TheoryData<string> OddNames =>
        ["plain", "Capitals", "with space", "with.dot", "with\"quote", "with'quote", "héllo 日本語 🔒", "{0} @p0 $1 :x %", "select", new string('n', 63)];

    private string Unique { get; } = Guid.NewGuid().ToString("N");

    private long Number { get; } = Random.Shared.NextInt64(long.MinValue, long.MaxValue);

    [Theory, InlineData(false), InlineData(true)]
    public async Task Advisory_locks_are_listed_with_their_keys_and_names(bool async)
    {
        await using var sessions = new Sessions();
        var (holder, observer) = (await sessions.OpenAsync("Application Name=holder"), await sessions.OpenAsync());
        LockKey name = "inspected:" + Unique;
        LockKey[] keys = [name, Number, -1 - (Number & int.MaxValue), (-5, (int)Number), (int.MinValue, (int)Number)];
        var held = keys.Select(key => new Lock(holder, key)).ToList();
        foreach (var one in held)
        {
            Assert.True(await one.AcquireAsync(block: false));
        }

        await new Lock(holder, (int.MaxValue, (int)Number), options: new LockOptions { Shared = true }).AcquireAsync();
        var filter = new PgLockFilter { Pids = [holder.ProcessID], LockTypes = ["advisory"] };
        var locks = async ? await observer.GetLocksAsync(filter, [name, (1, 2)]) : observer.GetLocks(filter, name, (1, 2));
        Assert.Equal([.. keys, (int.MaxValue, (int)Number)], locks.Select(l => l.Key!).OrderBy(key => Array.IndexOf(keys, key) is var i && i < 0 ? 9 : i));
        Assert.Equal("inspected:" + Unique, locks.Single(l => l.Key! == name || l.Key!.Equals(name)).Key!.Name);
        Assert.All(locks, l => Assert.True(l.Granted));
        Assert.All(locks, l => Assert.Equal(("postgres", holder.ProcessID, "holder"), (l.Database, l.Pid, l.Session!.Application)));
        Assert.All(locks, l => Assert.Equal(l.Key!.ToPgLocks(), l.ObjectKey));
        Assert.Equal(PgLockMode.Share, locks.Single(l => l.Key!.Equals((LockKey)(int.MaxValue, (int)Number))).Mode);
        Assert.Equal(keys.Length, locks.Count(l => l.Mode == PgLockMode.Exclusive));

        // Without its name it is a number.
        var unnamed = await observer.GetLocksAsync(new PgLockFilter { Pids = [holder.ProcessID], Keys = [name.Number] });
        Assert.Equal(name.Number.ToString(CultureInfo.InvariantCulture), unnamed.Single().Key!.Name);
        Assert.Equal("inspected:" + Unique, (await observer.GetLocksAsync(new PgLockFilter { Keys = [name] })).Single().Key!.Name);
    }

    [Theory, MemberData(nameof(OddNames))]
    public async Task Relations_are_listed_with_schema_and_name(string name)
    {
        await using var sessions = new Sessions();
        var (holder, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync());
        string[] schemas = [Cut("a " + Unique + name), Cut("B." + Unique + name)];
        foreach (var schema in schemas)
        {
            await holder.ExecuteAsync($"create schema {Quote(schema)}; create table {Quote(schema)}.{Quote(name)} (n int primary key)");
        }

        await using (var transaction = await holder.BeginTransactionAsync())
        {
            await holder.ExecuteAsync($"lock table {Quote(schemas[0])}.{Quote(name)} in share mode");
            await holder.ExecuteAsync($"select * from {Quote(schemas[1])}.{Quote(name)}");
            var locks = await observer.GetLocksAsync(new PgLockFilter { Relations = [new TableName(schemas[0], name)] });
            var only = Assert.Single(locks);
            Assert.Equal(("relation", PgLockMode.Share, schemas[0], name, "table", "postgres"), (only.LockType, only.Mode, only.Schema, only.Relation, only.RelationKind, only.Database));
            Assert.Null(only.Key);
            Assert.Contains($"{schemas[0]}.{name}", only.ToString(), StringComparison.Ordinal);

            // Without a schema, it is meant in each.
            Assert.Equal(
                schemas.Order(StringComparer.Ordinal),
                (await observer.GetLocksAsync(new PgLockFilter { Relations = [new TableName(null, name)], Pids = [holder.ProcessID] })).Select(l => l.Schema).Order(StringComparer.Ordinal));
            Assert.Equal("index", (await observer.GetLocksAsync(new PgLockFilter { Pids = [holder.ProcessID], Modes = [PgLockMode.AccessShare] })).Single(l => l.RelationKind != "table").RelationKind);
        }

        foreach (var schema in schemas)
        {
            await holder.ExecuteAsync($"drop schema {Quote(schema)} cascade");
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Every_filter_filters(bool async)
    {
        await using var sessions = new Sessions();
        var role = "filtered_" + Unique;
        var observer = await sessions.OpenAsync();
        await observer.ExecuteAsync($"create role {role} login superuser password 'filtered'");
        var holder = await sessions.OpenAsync($"Application Name=app-{Unique};Username={role};Password=filtered");
        await using var transaction = await holder.BeginTransactionAsync();
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        var waiter = await sessions.OpenWaitingAsync($"select pg_advisory_lock_shared({Number})", $"Application Name=late-{Unique}");
        var (zero, hour) = (TimeSpan.Zero, TimeSpan.FromHours(1));
        (PgLockFilter Filter, bool Holder, bool Waiter)[] cases =
        [
            (new(), true, true),
            (new() { Pids = [holder.ProcessID] }, true, false),
            (new() { Pids = [waiter.ProcessID, 1] }, false, true),
            (new() { Pids = [] }, false, false),
            (new() { Databases = ["postgres", "'"] }, true, true),
            (new() { Databases = ["no such"] }, false, false),
            (new() { Relations = ["no such"] }, false, false),
            (new() { Keys = [1, Number] }, true, true),
            (new() { Keys = [((int)(Number >> 32), (int)Number)] }, false, false),
            (new() { LockTypes = ["advisory"] }, true, true),
            (new() { LockTypes = ["relation"] }, false, false),
            (new() { Modes = [PgLockMode.Exclusive] }, true, false),
            (new() { Modes = [PgLockMode.Share, PgLockMode.SIRead] }, false, true),
            (new() { Granted = true }, true, false),
            (new() { Granted = false }, false, true),
            (new() { BlockingOnly = true }, true, false),
            (new() { BlockingOnly = true, Pids = [waiter.ProcessID] }, false, false),
            (new() { Applications = [$"app-{Unique}", $"late-{Unique}"] }, true, true),
            (new() { Applications = ["' or true --"] }, false, false),
            (new() { Users = [role] }, true, false),
            (new() { Users = ["postgres"] }, false, true),
            (new() { States = ["idle in transaction"] }, true, false),
            (new() { States = ["active"] }, false, true),
            (new() { MinTransactionAge = zero }, true, true),
            (new() { MinTransactionAge = hour }, false, false),
            (new() { MinStateAge = zero }, true, true),
            (new() { MinStateAge = hour }, false, false),
            (new() { Pids = [holder.ProcessID], Granted = true, Users = [role], MinStateAge = zero }, true, false),
            (new() { Pids = [holder.ProcessID], Granted = false }, false, false),
        ];
        if (observer.PostgreSqlVersion.Major >= 14)
        {
            cases = [.. cases, (new() { MinWait = zero }, false, true), (new() { MinWait = hour }, false, false)];
        }
        else
        {
            Assert.Contains("MinStateAge", Assert.Throws<NotSupportedException>(() => observer.GetLocks(new() { MinWait = zero })).Message, StringComparison.Ordinal);
        }

        foreach (var (filter, holds, waits) in cases)
        {
            var locks = (async ? await observer.GetLocksAsync(filter) : observer.GetLocks(filter)).Where(l => l.Key?.Number == Number && !l.Key.IsPair).ToList();
            Assert.True((holds, waits) == (locks.Any(l => l.Granted), locks.Any(l => !l.Granted)), filter.ToString());
        }

        var waiting = (await observer.GetLocksAsync(new PgLockFilter { Pids = [waiter.ProcessID], Granted = false })).Single();
        if (observer.PostgreSqlVersion.Major >= 14)
        {
            Assert.InRange(waiting.WaitStart!.Value, DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddMinutes(1));
            Assert.InRange(waiting.WaitDuration!.Value, TimeSpan.FromTicks(1), hour);
            Assert.Contains("has waited", waiting.ToString(), StringComparison.Ordinal);
        }

        await transaction.RollbackAsync();
        await holder.CloseAsync();
        await observer.ExecuteAsync($"drop role {role}");
    }

    [Fact]
    public async Task Each_lock_is_a_row_of_its_own_and_those_of_the_question_are_not_there()
    {
        await using var sessions = new Sessions();
        var connection = await sessions.OpenAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await connection.ExecuteAsync($"create table several_{Unique} (n int)");
        await connection.ExecuteAsync($"select pg_advisory_xact_lock({Number}), pg_advisory_xact_lock_shared({Number})");
        var own = await connection.GetLocksAsync(new PgLockFilter { Pids = [connection.ProcessID] });
        Assert.Equal(own.Count, own.ToHashSet().Count);
        Assert.Equal(2, own.Count(l => l.Key?.Number == Number));
        Assert.Contains(own, l => l.Relation == $"several_{Unique}" && l.Mode == PgLockMode.AccessExclusive);
        Assert.Contains(own, l => l.LockType == "transactionid" && l.TransactionId is not null);
        Assert.All(own, l => Assert.True(l.Session!.IsOwn));
        Assert.DoesNotContain(own, l => l.Relation is "pg_locks" or "pg_class" or "pg_database");
        await transaction.RollbackAsync();
        Assert.Empty(await connection.GetLocksAsync(new PgLockFilter { Pids = [connection.ProcessID] }));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Two_databases_are_not_mixed_up(bool async)
    {
        var database = "Second " + Unique;
        await using var sessions = new Sessions();
        var here = await sessions.OpenAsync();
        await here.ExecuteAsync($"create database {Quote(database)}");
        await using (var other = new Sessions())
        {
            var there = await other.OpenAsync($"Database={database}");
            foreach (var connection in new[] { here, there })
            {
                await connection.ExecuteAsync($"create table t_{Unique} (n int); select pg_advisory_lock({Number})");
            }

            await using var transaction = await there.BeginTransactionAsync();
            await there.ExecuteAsync($"lock table t_{Unique}");
            Assert.Equal(here.ProcessID, (await ListAsync(new() { Keys = [Number] })).Single().Pid);
            Assert.Equal(there.ProcessID, (await ListAsync(new() { Keys = [Number], Databases = [database] })).Single().Pid);
            Assert.Equal(2, (await ListAsync(new() { Keys = [Number], Databases = [database, "postgres"] })).Count);

            // Names of another database cannot be seen from here, and its oids must not be taken for ours.
            var table = (await ListAsync(new() { Databases = [database], LockTypes = ["relation"], Modes = [PgLockMode.AccessExclusive] })).Single();
            Assert.Null(table.Relation);
            Assert.NotNull(table.RelationOid);
            Assert.Contains(database, table.ToString(), StringComparison.Ordinal);
            await using var source = NpgsqlDataSource.Create(there.ConnectionString + $";Password={new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString).Password}");
            var named = async ? await source.GetLocksAsync(new() { Pids = [there.ProcessID], Relations = [$"t_{Unique}"] }) : source.GetLocks(new() { Pids = [there.ProcessID], Relations = [$"t_{Unique}"] });
            Assert.Equal("public", named.Single().Schema);
            Assert.Empty(async ? (await source.GetWaitGraphAsync(new() { Pids = [there.ProcessID] })).Roots : source.GetWaitGraph(new() { Pids = [there.ProcessID] }).Roots);
            await transaction.RollbackAsync();
        }

        await here.ExecuteAsync($"drop database {Quote(database)} with (force)");
        await here.ExecuteAsync($"drop table t_{Unique}");

        async Task<IReadOnlyList<PgLock>> ListAsync(PgLockFilter filter) => async ? await here.GetLocksAsync(filter) : here.GetLocks(filter);
    }

    [Fact]
    public async Task A_role_without_rights_sees_the_locks_and_that_the_rest_is_hidden()
    {
        await using var sessions = new Sessions();
        var (holder, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync());
        await holder.ExecuteAsync($"create role blind_{Unique}; select pg_advisory_lock({Number})");
        await observer.ExecuteAsync($"set role blind_{Unique}; select pg_advisory_lock_shared({Number} + 1)");
        var hidden = (await observer.GetLocksAsync(new PgLockFilter { Keys = [Number] })).Single();
        Assert.True(hidden.Session!.IsPartial);
        Assert.Equal((holder.ProcessID, "postgres", (string?)null), (hidden.Pid, hidden.Session.User, hidden.Session.State));
        Assert.Null(hidden.Session.Since);
        Assert.Null(hidden.Session.Query);
        Assert.Empty(await observer.GetLocksAsync(new PgLockFilter { Keys = [Number], MinStateAge = TimeSpan.Zero }));
        Assert.Empty(await observer.GetLocksAsync(new PgLockFilter { Keys = [Number], States = ["idle"] }));

        // pg_read_all_stats is what it lacks.
        await holder.ExecuteAsync($"grant pg_read_all_stats to blind_{Unique}");
        Assert.Equal("idle", (await observer.GetLocksAsync(new PgLockFilter { Keys = [Number], MinStateAge = TimeSpan.Zero })).Single().Session!.State);
        await observer.ExecuteAsync("reset role");
        await holder.ExecuteAsync($"drop role blind_{Unique}");
    }

    [Fact]
    public async Task Five_hundred_waiters_wait_for_one_holder()
    {
        const int Waiters = 500;
        await using var server = await PostgreSqlServer.StartPrivateAsync(["max_connections = 540", "deadlock_timeout = '10min'"]);
        await using var sessions = new Sessions(server);
        var holder = await sessions.OpenAsync();
        await holder.ExecuteAsync("select pg_advisory_lock(7)");
        var last = holder;
        for (var i = 0; i < Waiters; i++)
        {
            last = await sessions.OpenWaitingAsync("select pg_advisory_lock(7)");
        }

        // Somebody else's business.
        var apart = await sessions.OpenAsync();
        await apart.ExecuteAsync("select pg_advisory_lock(8)");
        await sessions.OpenWaitingAsync("select pg_advisory_lock(8)");

        var observer = await sessions.OpenAsync();
        Assert.Equal(Waiters, ((int[])(await observer.ExecuteAsync($"select pg_blocking_pids({last.ProcessID})"))!).Length);
        var graph = await observer.GetWaitGraphAsync(new PgLockFilter { Keys = [7] });
        Assert.Equal(Waiters, graph.Edges.Count);
        Assert.All(graph.Edges, edge => Assert.Equal((true, (int?)holder.ProcessID), (edge.IsHard, edge.Blocking.Pid)));
        Assert.Single(graph.Edges, edge => edge.Waiting.Pid == last.ProcessID);
        Assert.Equal(Waiters * (Waiters - 1) / 2, graph.QueueEdges.Count(edge => !edge.IsHard));
        Assert.Equal(Waiters - 1, graph.QueueEdges.Count(edge => edge.Waiting.Pid == last.ProcessID));
        var root = Assert.Single(graph.Roots);
        Assert.Equal(holder.ProcessID, root.Pid);
        Assert.Equal(Waiters, root.Waiters.Count);
        Assert.Equal(last.ProcessID, observer.PostgreSqlVersion.Major >= 14 ? root.Waiters[^1].Pid : last.ProcessID);
        Assert.Equal(2, (await observer.GetWaitGraphAsync()).Roots.Count);
        Assert.Equal(holder.ProcessID, (await observer.GetLocksAsync(new PgLockFilter { BlockingOnly = true, Keys = [7] })).Single().Pid);
        Assert.Equal(Waiters, (await new Lock(observer, 7).GetHoldersAsync()).Waiting);
    }

    [Fact]
    public async Task Who_only_queues_is_below_the_one_ahead()
    {
        await using var sessions = new Sessions();
        var (holder, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync());
        await holder.ExecuteAsync($"create table queue_{Unique} (n int)");
        await using var transaction = await holder.BeginTransactionAsync();
        await holder.ExecuteAsync($"select * from queue_{Unique}");
        var alter = await sessions.OpenWaitingAsync($"alter table queue_{Unique} add m int");
        var reader = await sessions.OpenWaitingAsync($"select * from queue_{Unique}");
        var graph = observer.GetWaitGraph(new PgLockFilter { Relations = [$"queue_{Unique}"] });
        var root = Assert.Single(graph.Roots);
        Assert.Equal(holder.ProcessID, root.Pid);
        Assert.Null(root.Waiting);
        Assert.Equal(alter.ProcessID, Assert.Single(root.Waiters).Pid);
        Assert.Equal(reader.ProcessID, Assert.Single(root.Waiters[0].Waiters).Pid);
        Assert.Equal((alter.ProcessID, holder.ProcessID), (graph.Edges.Single().Waiting.Pid, graph.Edges.Single().Blocking.Pid));
        Assert.Equal((reader.ProcessID, alter.ProcessID), (graph.QueueEdges.Single().Waiting.Pid, graph.QueueEdges.Single().Blocking.Pid));
        Assert.Matches(
            $@"^pid {holder.ProcessID} \(.*\), idle in transaction for .* s\n  pid {alter.ProcessID} .* for AccessExclusive on table public\.queue_{Unique}\n    pid {reader.ProcessID} .* for AccessShare on table public\.queue_{Unique}\n$",
            graph.ToString());
        Assert.Equal(holder.ProcessID, (await observer.GetLocksAsync(new PgLockFilter { BlockingOnly = true, Relations = [$"queue_{Unique}"] })).Single().Pid);
        await transaction.RollbackAsync();
    }

    [Fact]
    public async Task Waits_for_rows_lead_to_the_transaction_that_has_them()
    {
        await using var sessions = new Sessions();
        var (holder, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync());
        await holder.ExecuteAsync($"create table rows_{Unique} (n int); insert into rows_{Unique} values (1)");
        await using var transaction = await holder.BeginTransactionAsync();
        await holder.ExecuteAsync($"update rows_{Unique} set n = 2");
        var first = await sessions.OpenWaitingAsync($"update rows_{Unique} set n = 3");
        var second = await sessions.OpenWaitingAsync($"update rows_{Unique} set n = 4");
        var root = Assert.Single((await observer.GetWaitGraphAsync(new PgLockFilter { Pids = [holder.ProcessID] })).Roots);
        Assert.Equal((holder.ProcessID, first.ProcessID, second.ProcessID), (root.Pid, root.Waiters.Single().Pid, root.Waiters.Single().Waiters.Single().Pid));
        Assert.Equal("transactionid", root.Waiters.Single().Waiting!.LockType);
        Assert.Equal(("tuple", $"rows_{Unique}"), (root.Waiters.Single().Waiters.Single().Waiting!.LockType, root.Waiters.Single().Waiters.Single().Waiting!.Relation));
        await transaction.RollbackAsync();
    }

    [Fact]
    public async Task A_deadlock_is_a_root_of_its_own()
    {
        await using var sessions = new Sessions();
        var (a, b, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync(), await sessions.OpenAsync());
        var (x, y) = (Number & int.MaxValue, (Number & int.MaxValue) + 1);
        await a.ExecuteAsync($"set deadlock_timeout = '10min'; select pg_advisory_lock({x})");
        await b.ExecuteAsync($"set deadlock_timeout = '10min'; select pg_advisory_lock({y})");
        await sessions.StartWaitingAsync(a, $"select pg_advisory_lock({y})");
        await sessions.StartWaitingAsync(b, $"select pg_advisory_lock({x})");
        var behind = await sessions.OpenWaitingAsync($"set deadlock_timeout = '10min'; select pg_advisory_lock_shared({x})");
        var root = Assert.Single((await observer.GetWaitGraphAsync(new PgLockFilter { Keys = [x] })).Roots);
        Assert.True(root.IsDeadlocked);
        Assert.Contains(root.Pid!.Value, new[] { a.ProcessID, b.ProcessID });
        Assert.Equal(new[] { a.ProcessID, b.ProcessID, behind.ProcessID }.Order(), root.SelfAndAllWaiters().Select(node => node.Pid!.Value).Order());
        Assert.Contains("(deadlock)", (await observer.GetWaitGraphAsync(new PgLockFilter { Keys = [x] })).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_deadlock_beside_another_holder_is_told_too()
    {
        await using var sessions = new Sessions();
        var (a, b, c, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync(), await sessions.OpenAsync(), await sessions.OpenAsync());
        var (x, y) = (Number & int.MaxValue, (Number & int.MaxValue) + 1);
        await a.ExecuteAsync($"set deadlock_timeout = '10min'; select pg_advisory_lock({y})");
        await b.ExecuteAsync($"set deadlock_timeout = '10min'; select pg_advisory_lock_shared({x})");
        await c.ExecuteAsync($"select pg_advisory_lock_shared({x})");
        await sessions.StartWaitingAsync(a, $"select pg_advisory_lock({x})");
        await sessions.StartWaitingAsync(b, $"select pg_advisory_lock({y})");
        var graph = await observer.GetWaitGraphAsync(new PgLockFilter { Keys = [x] });
        Assert.Contains(graph.Roots, root => root.Pid == c.ProcessID && !root.IsDeadlocked);
        Assert.Contains(Assert.Single(graph.Roots, root => root.IsDeadlocked).Pid!.Value, new[] { a.ProcessID, b.ProcessID });
        Assert.Equal(3, graph.Edges.Count);

        // Whoever is asked for, all who are in the way are told.
        Assert.Equal(3, (await observer.GetWaitGraphAsync(new PgLockFilter { Pids = [c.ProcessID] })).Edges.Count);
    }

    [Fact]
    public async Task A_database_of_another_encoding_does_not_spoil_the_list()
    {
        var database = "latin_" + Unique;
        await using var sessions = new Sessions();
        var observer = await sessions.OpenAsync();
        await observer.ExecuteAsync($"create database {database} encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'");
        await using (var others = new Sessions())
        {
            var holder = await others.OpenAsync($"Database={database}");
            await holder.ExecuteAsync($"select pg_advisory_lock({Number}) -- café");
            var waiter = await others.OpenWaitingAsync($"select pg_advisory_lock({Number}) -- thé", $"Database={database}");
            var held = (await observer.GetLocksAsync(new PgLockFilter { Pids = [holder.ProcessID], LockTypes = ["advisory"] })).Single();
            Assert.Null(held.Session!.Query);
            Assert.Equal(waiter.ProcessID, (await observer.GetWaitGraphAsync(new PgLockFilter { Pids = [holder.ProcessID] })).Edges.Single().Waiting.Pid);
            Assert.EndsWith("-- café", (await new Lock(await others.OpenAsync($"Database={database}"), Number).GetHoldersAsync()).Single().Session!.Query, StringComparison.Ordinal);
        }

        await observer.ExecuteAsync($"drop database {database} with (force)");
    }

    [Fact]
    public async Task A_prepared_transaction_is_a_root_with_a_name()
    {
        await using var sessions = new Sessions();
        var (holder, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync());
        if ((string)(await holder.ExecuteAsync("show max_prepared_transactions"))! == "0")
        {
            return;
        }

        await holder.ExecuteAsync($"begin; select pg_advisory_xact_lock({Number}); prepare transaction 'p {Unique}'");
        var waiter = await sessions.OpenWaitingAsync($"select pg_advisory_lock({Number})");
        var root = Assert.Single((await observer.GetWaitGraphAsync(new PgLockFilter { Keys = [Number] })).Roots);
        Assert.Equal(($"p {Unique}", (int?)null, (PgSession?)null), (root.PreparedTransaction, root.Pid, root.Session));
        Assert.Equal(waiter.ProcessID, root.Waiters.Single().Pid);
        await observer.ExecuteAsync($"rollback prepared 'p {Unique}'");
    }

    [Fact]
    public async Task The_processes_of_a_parallel_query_are_one()
    {
        await using var sessions = new Sessions();
        var (leader, observer) = (await sessions.OpenAsync(), await sessions.OpenAsync());
        var force = leader.PostgreSqlVersion.Major >= 16 ? "debug_parallel_query" : "force_parallel_mode";
        await leader.ExecuteAsync($"create table parallel_{Unique} as select 1 as n; set {force} = on");
        var running = leader.ExecuteAsync($"select pg_sleep(600) from parallel_{Unique}");
        var filter = new PgLockFilter { Pids = [leader.ProcessID], Relations = [$"parallel_{Unique}"] };
        await TestServer.UntilAsync(async () => (await observer.GetLocksAsync(filter)).Count == 2, "a worker has its locks");
        var waiter = await sessions.OpenWaitingAsync($"drop table parallel_{Unique}");
        var root = Assert.Single((await observer.GetWaitGraphAsync(filter)).Roots);
        Assert.Equal(leader.ProcessID, root.Session!.LeaderPid ?? root.Pid);
        Assert.Equal(waiter.ProcessID, root.Waiters.Single().Pid);
        await observer.ExecuteAsync($"select pg_cancel_backend({leader.ProcessID})");
        await Assert.ThrowsAsync<PostgresException>(() => running);
    }

    [Fact]
    public async Task A_transaction_sees_the_sessions_of_now()
    {
        await using var sessions = new Sessions();
        var observer = await sessions.OpenAsync();
        await using var transaction = await observer.BeginTransactionAsync();
        for (var round = 0; round < 3; round++)
        {
            var holder = await sessions.OpenAsync($"Application Name=round-{round}");
            await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
            Assert.Equal($"round-{round}", (await observer.GetLocksAsync(new PgLockFilter { Keys = [Number] })).Single().Session!.Application);
            await holder.ExecuteAsync("select pg_advisory_unlock_all()");
        }
    }

    private static string Quote(string name) => $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    // As the server does with names that are too long.
    private static string Cut(string name)
    {
        while (System.Text.Encoding.UTF8.GetByteCount(name) > 63)
        {
            name = name[..^(char.IsLowSurrogate(name[^1]) ? 2 : 1)];
        }

        return name;
    }
}
