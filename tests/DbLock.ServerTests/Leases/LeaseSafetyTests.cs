using System.Data.Common;
using System.Diagnostics;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>One lease is never two holders', whatever happens: what is trusted never overlaps, tokens grow, no update is lost.</summary>
public sealed class LeaseSafetyTests
{
    private const int Sources = 4;
    private const int TasksOfEach = 3;
    private const int Rounds = 40;

    private static readonly LockOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(4), ClockMargin = TimeSpan.Zero };

    private LockKey Key { get; } = "lease safety:" + Guid.NewGuid();

    /// <summary>
    /// Several processes' worth of tasks fight for four keys, alone and in sets, and cancel some of their waits. Under each lease a number is read from the server and written back, larger by one.
    /// </summary>
    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task No_two_hold_one_at_a_time_tokens_grow_and_no_update_is_lost(string way)
    {
        LockKey[] keys = [.. Enumerable.Range(0, 4).Select(n => (LockKey)$"{Key}:{n}")];
        await LeaseServers.SourceAsync(way);
        var ledger = new LeaseLedger(keys);
        await using var numbers = await Numbers.CreateAsync(way, keys);
        var all = Enumerable.Range(0, Sources).Select(async source =>
        {
            await using var own = await LeaseServers.NewSourceAsync(way);
            await Task.WhenAll(Enumerable.Range(0, TasksOfEach).Select(task => WorkAsync(own, new Random((100 * source) + task))));
        });
        await Task.WhenAll(all);

        ledger.Check();
        foreach (var key in keys)
        {
            Assert.Equal(ledger.CountOf(key), await numbers.ReadAsync(key));
        }

        async Task WorkAsync(DbDataSource source, Random random)
        {
            for (var round = 0; round < Rounds; round++)
            {
                var wanted = random.GetItems(keys, random.Next(1, 4));
                using var cancel = random.Next(8) == 0 ? new CancellationTokenSource(random.Next(30)) : new CancellationTokenSource();
                try
                {
                    await using var held = random.Next(4) == 0
                        ? await source.TryAcquireLockAsync(LockKey.All(wanted), default, LeaseServers.Interface(way), Options, cancel.Token)
                        : await source.AcquireLockAsync(LockKey.All(wanted), null, LeaseServers.Interface(way), Options, cancel.Token);
                    if (held is not null)
                    {
                        var began = Stopwatch.GetTimestamp();
                        foreach (var key in held.Key.Keys)
                        {
                            await numbers.IncrementAsync(source, key);
                        }

                        Assert.True(held.IsHeld);
                        ledger.Note(held.Key, held.FencingToken!.Value, began, Stopwatch.GetTimestamp());
                        Assert.True(await held.ReleaseAsync());
                    }
                }
                catch (OperationCanceledException) when (cancel.IsCancellationRequested)
                {
                }
            }
        }
    }

    /// <summary>Sessions are ended all the time, so that answers are lost after the server has committed.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Answers_that_are_lost_give_nothing_to_two_and_leave_nothing_held(bool ofPools)
    {
        LockKey[] keys = [.. Enumerable.Range(0, 2).Select(n => (LockKey)$"{Key}:{n}")];
        await LeaseServers.SourceAsync("Npgsql");
        var (ledger, application) = (new LeaseLedger(keys), $"lost answers {Guid.NewGuid():N}");
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { ApplicationName = application };
        using var end = new CancellationTokenSource();
        var killer = KillAsync();
        await Task.WhenAll(Enumerable.Range(0, Sources).Select(async number =>
        {
            await using var source = NpgsqlDataSource.Create(connection);
            await using var pool = new LockPool(
                source, options: new LockPoolOptions { Scope = LockScope.Lease, Lease = Options.Lease, ClockMargin = Options.ClockMargin });
            var locks = ofPools ? (ILockSource)pool : source.CreateLockSource(options: Options);
            var random = new Random(number);
            for (var round = 0; round < 100; round++)
            {
                try
                {
                    await using var held = await locks.AcquireLockAsync(
                        ofPools ? LockKey.All(random.GetItems(keys, 2)) : random.GetItems(keys, 1)[0], TimeSpan.FromSeconds(30));
                    var began = Stopwatch.GetTimestamp();
                    await Task.Yield();
                    var ended = Stopwatch.GetTimestamp();
                    if (held.IsHeld)
                    {
                        ledger.Note(held.Key, held.FencingToken!.Value, began, ended);
                    }
                }
                catch (LockException)
                {
                    // Nobody knows who holds it: it ends by itself, or is let go later.
                }
            }
        }));
        await end.CancelAsync();
        await killer;
        ledger.Check();

        // What was given to nobody is let go, or ends, within its time.
        await using var last = await (await LeaseServers.SourceAsync("Npgsql")).AcquireLockAsync(LockKey.All(keys), TimeSpan.FromSeconds(10), null, Options);
        Assert.True(last.IsHeld);

        async Task KillAsync()
        {
            await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
            while (!end.IsCancellationRequested)
            {
                await administrator.ExecuteAsync(
                    $"select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = '{application}' and random() < 0.05");
            }
        }
    }

    /// <summary>With this setting PostgreSQL answers a commit before it is on disk, and a crash takes it back.</summary>
    [Fact]
    public async Task A_grant_that_was_answered_survives_a_crash_whatever_the_sessions_setting()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync(["synchronous_commit = off", "wal_writer_delay = '10s'", "fsync = on"]);
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await LeaseTable.Default.CreateAsync(source);
        var options = Options with { Lease = TimeSpan.FromMinutes(5) };
        var held = await source.AcquireLockAsync(Key, null, null, options);
        await using (var session = source.CreateCommand("show synchronous_commit"))
        {
            Assert.Equal("off", await session.ExecuteScalarAsync());
        }

        await server.RestartAsync(immediate: true);
        NpgsqlConnection.ClearAllPools();
        await using var other = NpgsqlDataSource.Create(server.ConnectionString);
        Assert.Null(await other.TryAcquireLockAsync(Key, default, null, options));

        // It was held to the end, over a restart that its session did not survive.
        Assert.True(held.IsHeld);
        Assert.True(await held.ReleaseAsync());
    }

    [Fact]
    public async Task A_renewal_or_an_acquire_that_comes_after_the_release_changes_nothing()
    {
        foreach (var way in new[] { "Npgsql", "MySqlConnector", "Sqlite" })
        {
            var source = await LeaseServers.SourceAsync(way);
            await using var connection = await source.OpenConnectionAsync();
            var (driver, leases) = (LockInterface.For(connection), Dialect(way).Leases!);
            LeaseRow[] rows = [new(leases.Name(Key), "first") { Lease = TimeSpan.FromMinutes(1), AtLeast = TimeSpan.FromMinutes(1) }];
            Assert.Single((await AskAsync(leases.Acquire(LeaseTable.Default, rows, allOrNone: false))).Rows);
            Assert.Single((await AskAsync(leases.Renew(LeaseTable.Default, rows))).Rows);
            Assert.Single((await AskAsync(leases.Release(LeaseTable.Default, rows))).Rows);
            Assert.Empty((await AskAsync(leases.Renew(LeaseTable.Default, rows))).Rows);

            // Its least time is not over, so that nobody gets it, not even the one who had it.
            Assert.Null(await source.TryAcquireLockAsync(Key, default, null, Options));
            Assert.Empty((await AskAsync(leases.Acquire(LeaseTable.Default, [rows[0] with { Owner = "second" }], allOrNone: false))).Rows);
            Assert.Empty((await AskAsync(leases.Acquire(LeaseTable.Default, rows, allOrNone: false))).Rows);

            async Task<LeaseReply> AskAsync(LockStatement statement) =>
                LeaseReply.Read(await driver.Driver.Execute(connection, null, statement, async: true, CancellationToken.None));
        }
    }

    [Theory]
    [InlineData("repeatable read")]
    [InlineData("serializable")]
    public async Task Other_isolation_levels_refuse_nothing_that_is_free(string level)
    {
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString)
        {
            Options = $"-c default_transaction_isolation={level.Replace(" ", "\\ ", StringComparison.Ordinal)}",
        };
        await LeaseServers.SourceAsync("Npgsql");
        var ledger = new LeaseLedger([Key]);
        await Task.WhenAll(Enumerable.Range(0, Sources).Select(async _ =>
        {
            await using var source = NpgsqlDataSource.Create(connection);
            for (var round = 0; round < 50; round++)
            {
                await using var held = await source.AcquireLockAsync(LockKey.All(Key, Key + "other"), TimeSpan.FromSeconds(30), null, Options);
                ledger.Note(Key, held.FencingToken!.Value, Stopwatch.GetTimestamp(), Stopwatch.GetTimestamp());
            }
        }));
        Assert.Equal(50 * Sources, ledger.CountOf(Key));
        ledger.Check();
    }

    /// <summary>A statement that finds the lease held writes nothing.</summary>
    [Fact]
    public async Task A_miss_costs_the_server_no_transaction_number()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        await using var source = NpgsqlDataSource.Create(
            new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name, MaxPoolSize = 1 });
        await LeaseTable.Default.CreateAsync(source);
        await using var held = await source.AcquireLockAsync(Key, null, null, Options with { Lease = TimeSpan.FromMinutes(10) });
        await using var other = NpgsqlDataSource.Create(source.ConnectionString + $";Password={new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString).Password}");
        var before = await WritesAsync();
        for (var miss = 0; miss < 100; miss++)
        {
            Assert.Null(await other.TryAcquireLockAsync(Key, default, null, Options));
            Assert.Null(await other.TryAcquireLockAsync(LockKey.All(Key, Key + "other"), default, null, Options));
        }

        Assert.Equal(before, await WritesAsync());

        // The number of the row's last transaction, and of those that tried to lock it.
        async Task<string> WritesAsync()
        {
            await using var command = source.CreateCommand($"select concat(xmin, ' ', xmax) from dblock_leases where key = '{Key}'");
            return (string)(await command.ExecuteScalarAsync())!;
        }
    }

    private static LockDialect Dialect(string way) => way switch
    {
        "Npgsql" => LockDialect.PostgreSql,
        "Sqlite" => LockDialect.Sqlite,
        _ => LockDialect.MariaDb,
    };

    /// <summary>Numbers on the server that are read and written back in two statements.</summary>
    private sealed class Numbers(DbDataSource source, string table) : IAsyncDisposable
    {
        public static async Task<Numbers> CreateAsync(string way, LockKey[] keys)
        {
            var numbers = new Numbers(await LeaseServers.NewSourceAsync(way), $"numbers_{Guid.NewGuid():N}");
            await numbers.AskAsync(null, $"create table {numbers.Table} (name varchar(200) primary key, number int not null)");
            foreach (var key in keys)
            {
                await numbers.AskAsync(null, $"insert into {numbers.Table} values ('{key}', 0)");
            }

            return numbers;
        }

        private string Table => table;

        public async Task IncrementAsync(DbDataSource over, LockKey key)
        {
            var number = Convert.ToInt32(await AskAsync(over, $"select number from {table} where name = '{key}'"), System.Globalization.CultureInfo.InvariantCulture);
            await AskAsync(over, $"update {table} set number = {number + 1} where name = '{key}'");
        }

        public async Task<int> ReadAsync(LockKey key) =>
            Convert.ToInt32(await AskAsync(null, $"select number from {table} where name = '{key}'"), System.Globalization.CultureInfo.InvariantCulture);

        public async ValueTask DisposeAsync()
        {
            await AskAsync(null, $"drop table {table}");
            await source.DisposeAsync();
        }

        private async Task<object?> AskAsync(DbDataSource? over, string sql)
        {
            await using var connection = await (over ?? source).OpenConnectionAsync();
            await using var command = connection.CreateCommand();
            command.CommandText = sql;
            return await command.ExecuteScalarAsync();
        }
    }
}
