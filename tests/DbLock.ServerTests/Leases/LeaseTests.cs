using System.Data.Common;
using System.Globalization;
using System.Runtime.CompilerServices;
using DbLock.LocalServers;
using MySqlConnector;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Leases from a data source, on every engine and through every pooler.</summary>
public sealed class LeaseTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromMinutes(1) };

    private LockKey Key { get; } = "lease:" + Guid.NewGuid();

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task A_lease_is_held_until_it_is_released_and_its_tokens_grow(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;

        // A file has one writer, and other tests may keep it busy for a second and more.
        var moment = way == "Sqlite" ? TimeSpan.FromSeconds(3) : TimeSpan.FromMilliseconds(30);
        var last = 0L;
        for (var use = 0; use < 3; use++)
        {
            var held = await source.AcquireLockAsync(Key, TimeSpan.FromSeconds(10), driver, Options);
            Assert.True(held.IsHeld);
            Assert.True(held.FencingToken > last);
            Assert.True(held.FencingToken > 1_700_000_000_000_000);
            last = held.FencingToken.Value;
            Assert.Null(await other.TryAcquireLockAsync(Key, default, driver, Options));
            Assert.Null(await source.TryAcquireLockAsync(Key, default, driver, Options));
            Assert.Null(other.TryAcquireLock(Key, default, driver, Options));
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => other.AcquireLockAsync(Key, moment, driver, Options).AsTask());
            Assert.Contains($"is held by process {Environment.ProcessId} of '", error.Message, StringComparison.Ordinal);
            var lease = Assert.Single(error.Holders!).Lease!;
            Assert.Equal((last, Key.Name, Environment.MachineName), (lease.Token, lease.Name, lease.Host));
            Assert.True(await held.ReleaseAsync());
            Assert.False(await held.ReleaseAsync());
            Assert.False(held.IsHeld);
            Assert.False(held.Lost.IsCancellationRequested);
            using var next = other.TryAcquireLock(Key, default, driver, Options);
            Assert.True(next!.FencingToken > last);
            last = next.FencingToken.Value;
        }
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Who_holds_it_is_told_to_who_waits_in_vain_and_to_who_asks(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;
        var options = Options with { AtLeast = TimeSpan.FromMinutes(1), Note = "it's Ann's \"é\" 😀" };
        Assert.Empty(await LeaseTable.Default.GetLeasesAsync(other, [Key], driver));
        var held = await source.AcquireLockAsync(Key, null, driver, options);
        var errors = new[]
        {
            await Assert.ThrowsAsync<LockNotAcquiredException>(() => other.AcquireLockAsync(Key, TimeSpan.FromMilliseconds(30), driver, Options).AsTask()),
            await Assert.ThrowsAsync<LockNotAcquiredException>(() => source.AcquireLockAsync(LockKey.All(Key, Key + "free"), TimeSpan.Zero, driver, Options).AsTask()),
            Assert.Throws<LockNotAcquiredException>(() => other.AcquireLock(Key, TimeSpan.FromMilliseconds(30), driver, Options)),
            Assert.Throws<LockNotAcquiredException>(() => source.AcquireLock(Key, TimeSpan.Zero, driver, Options)),
        };
        foreach (var error in errors)
        {
            Assert.Contains($"is held by process {Environment.ProcessId} of '", error.Message, StringComparison.Ordinal);
            Check(Assert.Single(error.Holders!).Lease!, isReleased: false);
        }

        Check(Assert.Single(await LeaseTable.Default.GetLeasesAsync(other, [Key, Key + "free"], driver)), isReleased: false);
        Check(Assert.Single(await LeaseTable.Default.GetLeasesAsync(other, null, driver), lease => lease.Name == Key.Name), isReleased: false);
        Assert.Empty(await LeaseTable.Default.GetLeasesAsync(other, [], driver));
        await held.ReleaseAsync();
        Check(Assert.Single(await LeaseTable.Default.GetLeasesAsync(other, [Key], driver)), isReleased: true);
        var missing = await Assert.ThrowsAsync<LockException>(() => new LeaseTable("there_is_none").GetLeasesAsync(other, null, driver));
        Assert.Contains("LeaseTable.CreateAsync", missing.Message, StringComparison.Ordinal);

        void Check(LockLease lease, bool isReleased)
        {
            Assert.Equal((Key.Name, 0, isReleased, held.FencingToken!.Value), (lease.Name, lease.Slot, lease.IsReleased, lease.Token));
            Assert.Equal((Environment.MachineName, Environment.ProcessId, options.Note), (lease.Host!, lease.Process!.Value, lease.Note));
            Assert.True(lease.Since <= lease.Clock && lease.Clock < lease.Until);
            Assert.Equal(options.AtLeast, lease.Until - lease.Since);
        }
    }

    /// <summary>Four rows: one is held, one ended now, one ended long ago, and one ended long ago with a token ahead of the clock.</summary>
    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Old_rows_are_cleared_away_where_tokens_go_on_growing_without_them(string way)
    {
        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        var options = Options with { LeaseTable = new LeaseTable($"leases_{Guid.NewGuid():N}") };
        await options.LeaseTable.CreateAsync(source, driver);
        await using var held = await source.AcquireLockAsync(Key, null, driver, options);
        string[] ended = [Key + "now", Key + "old", Key + "ahead"];
        var last = 0L;
        foreach (var name in ended)
        {
            await using var once = await source.AcquireLockAsync(name, null, driver, options);
            last = once.FencingToken!.Value;
        }

        var isFile = way == "Sqlite";
        var (key, twoDays) = isFile ? ("key", "172800000000") : way is "MySqlConnector" or "MySql.Data" or "Odbc on MariaDB" ? ("`key`", "interval 2 day") : ("key", "interval '2 day'");
        await LeaseServers.AskAsync(source, $"update {options.LeaseTable} set expires = expires - {twoDays} where {key} in ('{ended[1]}', '{ended[2]}')");
        await LeaseServers.AskAsync(source, $"update {options.LeaseTable} set token = token + 1000000000000 where {key} = '{ended[2]}'");
        Assert.Equal(1, await options.LeaseTable.ClearAsync(source, driver));
        Assert.Equal(0, await options.LeaseTable.ClearAsync(source, driver));
        Assert.Equal(3, Convert.ToInt32(await LeaseServers.AskAsync(source, $"select count(*) from {options.LeaseTable}"), CultureInfo.InvariantCulture));
        foreach (var name in ended)
        {
            await using var again = await source.AcquireLockAsync(name, null, driver, options);
            Assert.True(again.FencingToken > (name == ended[2] ? last + 1_000_000_000_000 : last));
        }

        Assert.True(await held.ReleaseAsync());
        await LeaseServers.AskAsync(source, $"drop table {options.LeaseTable}");
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Several_keys_are_acquired_all_or_none_with_one_token(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;
        LockKey[] keys = [.. Enumerable.Range(0, 20).Select(n => (LockKey)$"{Key}:{n} é 😀")];
        await using (var one = await source.AcquireLockAsync(keys[7], TimeSpan.FromSeconds(10), driver, Options))
        {
            Assert.Null(await other.TryAcquireLockAsync(LockKey.All(keys), default, driver, Options));
            await using var rest = await other.TryAcquireLockAsync(LockKey.All(keys.Where(key => key != keys[7])), default, driver, Options);
            Assert.NotNull(rest);
        }

        await using var all = await other.TryAcquireLockAsync(LockKey.All(keys), TimeSpan.FromSeconds(5), driver, Options);
        Assert.NotNull(all);
        Assert.Null(await source.TryAcquireLockAsync(LockKey.All(keys[3], Key), default, driver, Options));
        await all.ReleaseAsync();
        await using var again = await source.TryAcquireLockAsync(keys[3], default, driver, Options);
        Assert.True(again!.FencingToken > all.FencingToken);
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Who_waits_gets_it_when_it_is_released(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;
        var held = await source.AcquireLockAsync(Key, null, driver, Options);
        var elsewhere = other.AcquireLockAsync(Key, null, driver, Options).AsTask();
        var here = source.AcquireLockAsync(Key, null, driver, Options).AsTask();
        var blocking = await SideBySide(() => source.AcquireLock(Key, TimeSpan.FromMinutes(1), driver, Options));
        Assert.False(elsewhere.IsCompleted || here.IsCompleted || blocking.IsCompleted);
        await held.DisposeAsync();
        HashSet<Task<HeldLock>> waiting = [elsewhere, here, blocking];
        while (waiting.Count > 0)
        {
            var next = await Task.WhenAny(waiting);
            waiting.Remove(next);
            Assert.DoesNotContain(waiting, wait => wait.IsCompleted);
            await (await next).DisposeAsync();
        }

        static async Task<Task<HeldLock>> SideBySide(Func<HeldLock> acquire)
        {
            var started = new TaskCompletionSource();
            var task = Task.Factory.StartNew(
                () =>
                {
                    started.SetResult();
                    return acquire();
                },
                TaskCreationOptions.LongRunning);
            await started.Task;
            return task;
        }
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task It_is_renewed_while_it_is_held_and_ends_by_itself_when_it_is_not(string way)
    {
        var (source, other) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way));
        await using var closing = other;

        // The shortest ends on a machine that has no time for a quarter of a second.
        var options = Options with { Lease = TimeSpan.FromSeconds(12) };
        var held = await source.AcquireLockAsync(Key, null, null, options);
        var first = await TellAsync();
        await TestServer.UntilAsync(async () => (await TellAsync()).Until > first.Until, "it has been renewed");
        Assert.True(held.IsHeld);
        Assert.Equal(held.FencingToken, (await TellAsync()).Token);
        await held.DisposeAsync();

        async Task<LockLease> TellAsync() => Assert.Single(await LeaseTable.Default.GetLeasesAsync(other, [Key]));
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task It_is_lost_when_its_row_is_taken_away_and_the_release_says_so(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        var held = await source.AcquireLockAsync(Key, null, null, Options with { Lease = LeaseLengths.Shortest });
        await LeaseServers.AskAsync(source, $"update dblock_leases set owner = 'thief' where {(way == "MySqlConnector" ? "`key`" : "key")} = '{Key}'");

        var lost = new TaskCompletionSource();
        await using var registration = held.Lost.Register(lost.SetResult);
        await lost.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.False(held.IsHeld);
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(() => held.ReleaseAsync().AsTask());
        await held.DisposeAsync();
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Names_that_differ_are_different_leases(string way)
    {
        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        string[] ends = ["a", "a ", "A", "ä", "Ä", "a\u0308", "a\0", "a\0b", "", " ", "'", "\"", "\\", "😀", "😁", new string('x', 500), new string('x', 501), new string('é', 300), new string('é', 301)];
        await using var all = await source.TryAcquireLockAsync(LockKey.All(ends.Select(end => (LockKey)(Key + end))), default, driver, Options);
        Assert.NotNull(all);
        foreach (var end in ends)
        {
            Assert.Null(await source.TryAcquireLockAsync(Key + end, default, driver, Options));
            await using var longer = await source.TryAcquireLockAsync(Key + end + "!", default, driver, Options);
            Assert.NotNull(longer);
        }
    }
}

/// <summary>What is wrong with a connection, a table or an option is told in one sentence.</summary>
public sealed class LeaseRefusalTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease };

    private LockKey Key { get; } = "lease refusal:" + Guid.NewGuid();

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task A_missing_table_is_told_with_its_ddl_which_makes_it(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        var options = Options with { LeaseTable = new LeaseTable($"Leases of {Guid.NewGuid():N}") };
        var error = await Assert.ThrowsAsync<LockException>(() => source.TryAcquireLockAsync(Key, default, null, options).AsTask());
        Assert.Contains("LeaseTable.CreateAsync", error.Message, StringComparison.Ordinal);
        await LeaseServers.AskAsync(source, error.Message[error.Message.IndexOf("create table", StringComparison.Ordinal)..]);
        await using (var held = await source.TryAcquireLockAsync(Key, default, null, options))
        {
            Assert.NotNull(held);
        }

        var quoted = way == "MySqlConnector" ? $"`{options.LeaseTable}`" : $"\"{options.LeaseTable}\"";
        await LeaseServers.AskAsync(source, $"drop table {quoted}");
    }

    [Fact]
    public async Task A_table_without_its_key_and_a_role_without_a_right_are_told()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name };
        await using var source = NpgsqlDataSource.Create(connection);
        var options = Options with { LeaseTable = new LeaseTable("leases", "locks") };
        await LeaseServers.AskAsync(source, "create schema locks; create table locks.leases (key text, slot int, owner text, token bigint, taken timestamptz, expires timestamptz, holder text, note text)");
        Assert.Contains("has other columns", (await RefusedAsync()).Message, StringComparison.Ordinal);

        await LeaseServers.AskAsync(source, "drop table locks.leases");
        await options.LeaseTable.CreateAsync(source);
        await using (var held = await source.TryAcquireLockAsync(Key, default, null, options))
        {
            Assert.NotNull(held);
        }

        await LeaseServers.AskAsync(source, $"create role reader_{database.Name} login password 'x'; grant usage on schema locks to reader_{database.Name}; grant select on locks.leases to reader_{database.Name}");
        await using var reader = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(connection.ConnectionString) { Username = $"reader_{database.Name}", Password = "x", Pooling = false });
        Assert.Contains("grant select, insert and update on it", (await Assert.ThrowsAsync<LockException>(() => reader.TryAcquireLockAsync(Key, default, null, options).AsTask())).Message, StringComparison.Ordinal);
        await LeaseServers.AskAsync(source, $"drop owned by reader_{database.Name}; drop role reader_{database.Name}");

        Task<LockException> RefusedAsync() => Assert.ThrowsAsync<LockException>(() => source.TryAcquireLockAsync(Key, default, null, options).AsTask());
    }

    [Fact]
    public async Task A_session_that_does_not_commit_by_itself_is_refused()
    {
        var own = new MySqlDataSourceBuilder((await MariaDbTestServer.ServerAsync).ConnectionString)
            .UseConnectionOpenedCallback(async (opened, cancellationToken) =>
            {
                await using var command = opened.Connection.CreateCommand();
                command.CommandText = "set autocommit = 0";
                await command.ExecuteNonQueryAsync(cancellationToken);
            });
        await using var source = own.Build();
        var usual = await LeaseServers.SourceAsync("MySqlConnector");
        var error = await Assert.ThrowsAsync<LockException>(() => source.TryAcquireLockAsync(Key, default, null, Options).AsTask());
        Assert.Contains("autocommit", error.Message, StringComparison.Ordinal);
        await using var held = await usual.TryAcquireLockAsync(Key, TimeSpan.FromSeconds(10), null, Options);
        Assert.NotNull(held);
    }

    [Fact]
    public async Task A_standby_is_told()
    {
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Options = "-c default_transaction_read_only=on" };
        await LeaseServers.SourceAsync("Npgsql");
        await using var source = NpgsqlDataSource.Create(connection);
        var error = await Assert.ThrowsAsync<LockException>(() => source.TryAcquireLockAsync(Key, default, null, Options).AsTask());
        Assert.Contains("takes no writes", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Options_that_a_lease_cannot_have_are_refused_by_the_call()
    {
        await using var source = NpgsqlDataSource.Create("Host=127.0.0.1;Port=1;Username=nobody");
        Assert.Throws<ArgumentOutOfRangeException>(() => source.AcquireLock(Key, null, null, Options with { Lease = TimeSpan.FromSeconds(1.9) }));
        Assert.Throws<ArgumentOutOfRangeException>(() => source.AcquireLock(Key, null, null, Options with { Lease = TimeSpan.FromDays(11) }));
        Assert.Throws<ArgumentOutOfRangeException>(() => source.AcquireLock(Key, null, null, Options with { AtLeast = TimeSpan.FromSeconds(-1) }));
        Assert.Throws<ArgumentOutOfRangeException>(() => source.AcquireLock(Key, null, null, Options with { ClockMargin = TimeSpan.FromSeconds(16) }));
        Assert.Throws<ArgumentException>(() => source.AcquireLock(Key, null, null, Options with { Shared = true }));
        Assert.Throws<ArgumentException>(() => source.CreateLockSource(null, Options with { Reentrant = true }));
        await using var connection = source.CreateConnection();
        Assert.Throws<ArgumentException>(() => new Lock(connection, Key, null, Options with { Reentrant = true }));

        // A session's lock would be given again at once.
        var least = new LockOptions { AtLeast = TimeSpan.FromHours(1) };
        Assert.Throws<ArgumentException>(() => source.AcquireLock(Key, null, null, least));
        Assert.Throws<ArgumentException>(() => source.CreateLockSource(null, least));
        Assert.Throws<ArgumentException>(() => new Lock(connection, Key, null, least));
    }

    [Fact]
    public async Task A_connection_that_cannot_be_opened_is_told_with_its_reason()
    {
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Username = "nobody here" };
        await using var source = NpgsqlDataSource.Create(connection);
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(30) })
        {
            var error = await Assert.ThrowsAsync<LockException>(() => source.TryAcquireLockAsync(Key, timeout, null, Options).AsTask());
            Assert.Contains("because no connection to the server could be opened: 28", error.Message, StringComparison.Ordinal);
            Assert.IsType<PostgresException>(error.InnerException);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_session_that_ended_while_it_was_idle_is_not_heard_of(bool isTry)
    {
        await LeaseServers.SourceAsync("Npgsql");
        var application = $"idle {Guid.NewGuid():N}";
        await using var source = NpgsqlDataSource.Create(
            new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { ApplicationName = application });
        await (await source.AcquireLockAsync(Key, null, null, Options)).DisposeAsync();
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await administrator.ExecuteAsync($"select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where application_name = '{application}'");
        await using var held = isTry
            ? await source.TryAcquireLockAsync(Key, default, null, Options) : await source.AcquireLockAsync(Key, TimeSpan.FromMinutes(1), null, Options);
        Assert.NotNull(held);
    }

    [Fact]
    public async Task A_file_has_leases_alone()
    {
        var source = await LeaseServers.SourceAsync("Sqlite");
        var error = await Assert.ThrowsAsync<NotSupportedException>(() => source.TryAcquireLockAsync(Key).AsTask());
        Assert.Contains("LockScope.Lease", error.Message, StringComparison.Ordinal);
    }
}

/// <summary>A job that many start runs once in an interval.</summary>
public sealed class LeaseIntervalTests
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(3);

    private LockKey Key { get; } = "lease interval:" + Guid.NewGuid();

    /// <summary>Ten instances try all the time, some of them let go at once and some die: the tokens are the server's times of the grants.</summary>
    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task It_is_not_given_again_before_its_time_whether_it_was_released_or_its_holder_died(string way)
    {
        var shared = await LeaseServers.SourceAsync(way);
        var options = new LockOptions { Scope = LockScope.Lease, Lease = LeaseLengths.Shortest, AtLeast = Interval };
        List<long> grants = [];
        await Task.WhenAll(Enumerable.Range(0, 10).Select(async instance =>
        {
            await using var source = await LeaseServers.NewSourceAsync(way);
            while (Grants() < 4)
            {
                if (await TryAsync(source) is { } held)
                {
                    lock (grants)
                    {
                        grants.Add(held.FencingToken!.Value);
                    }

                    await held.DisposeAsync();
                }
            }
        }));
        Assert.All(grants.Zip(grants.Skip(1)), pair => Assert.True(pair.Second - pair.First >= Interval.TotalMicroseconds, $"{pair.Second - pair.First} µs"));

        // This one dies: nobody renews or releases it, and its time is not over when its lease is.
        await using var connection = await shared.OpenConnectionAsync();
        var (driver, leases) = (LockInterface.For(connection).Driver, way == "Npgsql" ? LockDialect.PostgreSql.Leases! : way == "Sqlite" ? LockDialect.Sqlite.Leases! : LockDialect.MariaDb.Leases!);
        var dies = (LockKey)(Key + " dies");
        LeaseRow[] rows = [new(leases.Name(dies), "dead") { Lease = LeaseLengths.Shortest, AtLeast = Interval }];
        var died = LeaseReply.Read(await driver.Execute(connection, null, leases.Acquire(LeaseTable.Default, rows, allOrNone: false), async: true, CancellationToken.None)).Rows.Single().Token;
        await using var next = await shared.AcquireLockAsync(dies, TimeSpan.FromSeconds(30), null, options);
        Assert.True(next.FencingToken - died >= Interval.TotalMicroseconds);

        // A busy machine may not answer in time, which is no grant.
        async Task<HeldLock?> TryAsync(DbDataSource source)
        {
            try
            {
                return await source.TryAcquireLockAsync(Key, TimeSpan.FromMilliseconds(200), null, options);
            }
            catch (LockException e) when (e.IsLate())
            {
                return null;
            }
        }

        int Grants()
        {
            lock (grants)
            {
                return grants.Count;
            }
        }
    }

    /// <summary>Its answer is not there, or nobody has released it: what the server is told later keeps the interval all the same.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task It_is_not_given_again_before_its_time_when_its_release_comes_late(bool isReleased)
    {
        var (server, shared) = (await PostgreSqlTestServer.ServerAsync, await LeaseServers.SourceAsync("Npgsql"));
        var options = new LockOptions { Scope = LockScope.Lease, AtLeast = TimeSpan.FromHours(1) };
        var proxy = new PostgreSqlProxy(server.Host, server.Port);
        var connection = new NpgsqlConnectionStringBuilder(server.ConnectionString) { Host = "127.0.0.1", Port = proxy.Port, SslMode = SslMode.Disable };
        await using var source = NpgsqlDataSource.Create(connection);
        if (isReleased)
        {
            var held = await source.AcquireLockAsync(Key, null, null, options);
            await proxy.DisposeAsync();
            Assert.True(await held.ReleaseAsync());
        }
        else
        {
            await AbandonAsync();
            await proxy.DisposeAsync();
        }

        await using var back = new PostgreSqlProxy(server.Host, server.Port, connection.Port);
        await TestServer.UntilAsync(
            async () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return await LeaseServers.AskAsync(shared, $"select owner from dblock_leases where key = '{Key}'") is "";
            },
            "the server was told");
        Assert.Null(await shared.TryAcquireLockAsync(Key, default, null, options));

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync() => Assert.True((await source.AcquireLockAsync(Key, null, null, options)).IsHeld);
    }
}

/// <summary>How long leases are in tests.</summary>
internal static class LeaseLengths
{
    public static readonly TimeSpan Shortest = TimeSpan.FromSeconds(2);
}
