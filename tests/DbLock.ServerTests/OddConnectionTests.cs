using System.Data;
using System.Data.Common;
using System.Data.Odbc;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Sessions of PostgreSQL that are not as most are: without rights, without arrays, in an odd encoding, among hostile names.</summary>
public sealed class OddConnectionTests
{
    // Each is the name of a type that DbLock's statements have; a temporary table of that name comes before it.
    private const string HostileTables = "text, float8, oid, json, name, bool, int2, int4, int8, timestamptz, regclass, xid, \"char\", varchar";

    private const string HostileFunctions = """
        create schema evil;
        create function evil.fail() returns bigint language plpgsql as $$ begin raise exception 'hostile'; end $$;
        create function evil.floor(double precision) returns double precision language sql as $$ select evil.fail()::double precision $$;
        create function evil.unnest(anyarray) returns setof anyelement language sql as $$ select ($1)[1] where evil.fail() > 0 $$;
        create function evil.min(bigint) returns bigint language sql as $$ select evil.fail() $$;
        create function evil.min(smallint) returns bigint language sql as $$ select evil.fail() $$;
        create function evil.bool_and(boolean) returns boolean language sql as $$ select evil.fail() > 0 $$;
        create function evil.greatest(bigint, bigint) returns bigint language sql as $$ select evil.fail() $$;
        create function evil.string_agg(pg_catalog.text, pg_catalog.text) returns pg_catalog.text language sql as $$ select evil.fail()::text $$;
        create aggregate evil.count(*) (sfunc = pg_catalog.int8inc, stype = bigint, initcond = '1000');
        create domain evil.text as pg_catalog.text check (false);
        create domain evil.float8 as pg_catalog.float8 check (false);
        create domain evil.name as pg_catalog.name check (false);
        create domain evil.oid as pg_catalog.oid check (false);
        create domain evil.json as pg_catalog.json check (false);
        """;

    private LockKey Key { get; } = "odd:" + Guid.NewGuid();

    [Theory]
    [InlineData("Odbc", false), InlineData("Odbc", true)]
    [InlineData("MySql.Data", false), InlineData("MySql.Data", true)]
    public async Task A_connection_in_another_character_set_names_the_same_locks(string provider, bool async)
    {
        var server = await MariaDbTestServer.ServerAsync;
        await using DbConnection latin = provider == "Odbc"
            ? new OdbcConnection(server.OdbcConnectionString + ";CHARSET=latin1")
            : new MySql.Data.MySqlClient.MySqlConnection(server.ConnectionString + ";CharSet=latin1;Pooling=false");
        await latin.OpenAsync();
        await using var plain = await MariaDbTestServer.OpenAsync<MySqlConnector.MySqlConnection>(pooled: false);
        LockKey[] keys = [Key.Name + "é", Key.Name + "δ", Key.Name + "д", Key.Name + "\U0001F512", LockKey.All(Key.Name + "a", Key.Name + "ж")];
        foreach (var key in keys)
        {
            await using var first = new Lock(latin, key);
            await using var second = new Lock(plain, key);
            Assert.True(await first.Try(async));
            Assert.False(await second.Try(async));
            Assert.True(await first.Release(async));
            Assert.True(await second.Try(async));
            Assert.False(await first.Try(async));
            Assert.True(await second.Release(async));
        }

        // None of them is another's.
        Lock[] locks = [.. keys.Select(key => new Lock(latin, key))];
        foreach (var @lock in locks)
        {
            Assert.True(await @lock.Try(async));
        }

        foreach (var @lock in locks)
        {
            Assert.True(await @lock.Release(async));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_connection_that_is_opened_on_another_engine_speaks_what_that_one_speaks(bool async)
    {
        var (postgreSql, mariaDb) = (await PostgreSqlTestServer.ServerAsync, await MariaDbTestServer.ServerAsync);
        await using var connection = new OdbcConnection();
        foreach (var (connectionString, server) in new (string, TestServer)[]
        {
            (postgreSql.OdbcConnectionString, PostgreSqlTestServer.Instance), (mariaDb.OdbcConnectionString, MariaDbTestServer.Instance),
            (postgreSql.OdbcConnectionString, PostgreSqlTestServer.Instance),
        })
        {
            connection.ConnectionString = connectionString;
            await connection.OpenAsync();
            await using (var @lock = new Lock(connection, Key))
            {
                Assert.True(await @lock.Try(async));
                Assert.True(await server.IsHeldAsync(Key));
                Assert.True(await @lock.Release(async));
                Assert.False(await server.IsHeldAsync(Key));
            }

            await connection.CloseAsync();
        }
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_role_that_may_not_read_pg_locks_keeps_its_connection_whatever_a_wait_comes_to(string driver, bool async)
    {
        await using var role = await BlindRole.CreateAsync(andFunction: false);
        await using var holding = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={role.Database};Pooling=false");
        await using var source = role.CreateSource(driver);
        await using var connection = await source.OpenConnectionAsync();
        var session = await PostgreSqlTestServer.Instance.SessionIdAsync(connection);
        await using var kept = new Lock(connection, Key.Name + ":kept", Drivers.Interface(driver), new LockOptions { Reentrant = true });
        Assert.True(await kept.Try(async));
        foreach (var (key, first) in new[] { (Key, Key), (LockKey.All(Key, Key.Name + ":second", (3, 4)), Key) })
        {
            await using var holder = new Lock(holding, first);
            await using var @lock = new Lock(connection, key, Drivers.Interface(driver));
            foreach (var inTransaction in new[] { false, true })
            {
                await using var transaction = inTransaction ? await connection.BeginTransactionAsync() : null;
                @lock.Transaction = transaction;
                kept.Transaction = transaction;
                Assert.True(await holder.AcquireAsync());
                Assert.False(await @lock.Acquire(async, TimeSpan.FromMilliseconds(20)));
                using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() => @lock.AcquireAsync(cancel.Token).AsTask());
                Assert.Null((await Assert.ThrowsAsync<LockNotAcquiredException>(() => @lock.RunAsync(_ => Task.CompletedTask, TimeSpan.FromMilliseconds(20)))).Holders);
                Assert.True(await holder.ReleaseAsync());
                Assert.True(await @lock.Acquire(async, TimeSpan.FromSeconds(10)));
                Assert.True(await @lock.Release(async));

                // A nested acquire asks the server whether it is held.
                Assert.True(await kept.Try(async));
                Assert.True(await kept.Release(async));
                if (transaction is not null)
                {
                    await transaction.CommitAsync();
                }
            }
        }

        Assert.Equal(session, await PostgreSqlTestServer.Instance.SessionIdAsync(connection));
        Assert.True(await kept.Release(async));
        await using (var pool = new LockPool(source, Drivers.Interface(driver)))
        await using (var pooled = await pool.AcquireLockAsync(Key))
        {
            Assert.True(await pooled.ReleaseAsync());
        }
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet"), InlineData("Odbc")]
    public async Task A_role_that_cannot_ask_at_all_loses_its_session_only_where_a_wait_is_in_doubt(string driver)
    {
        await using var role = await BlindRole.CreateAsync(andFunction: true);
        await using var holding = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={role.Database};Pooling=false");
        await using var source = role.CreateSource(driver);
        await using var connection = await source.OpenConnectionAsync();
        await using var holder = new Lock(holding, Key);
        var logger = new RecordingLogger();
        await using var @lock = new Lock(connection, Key, Drivers.Interface(driver), new LockOptions { Logger = logger });
        Assert.True(await holder.AcquireAsync());
        Assert.False(await @lock.AcquireAsync(TimeSpan.FromMilliseconds(20)));
        Assert.Equal(ConnectionState.Open, connection.State);
        using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => @lock.AcquireAsync(cancel.Token).AsTask());
        Assert.Equal(ConnectionState.Closed, connection.State);
        Assert.Contains(logger.Texts, message => message.Contains("grant select on pg_locks", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_slim_data_source_has_no_arrays_and_needs_none()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var address = $"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Database={database.Name}";
        await using var source = new NpgsqlSlimDataSourceBuilder(address).Build();
        await using var connection = await source.OpenConnectionAsync();
        await connection.ExecuteAsync("create table \"a\"\"b\\c\" (x int); create table second (x int)");
        await using var held = await source.AcquireLockAsync(Key);
        var waiter = await source.OpenConnectionAsync();
        var wait = new Lock(waiter, Key);
        var waiting = wait.AcquireAsync(TimeSpan.FromSeconds(10)).AsTask();
        await PostgreSqlTestServer.Instance.UntilWaitingAsync(waiter.ProcessID);
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            Assert.True(await connection.CreateTableLock(PgLockMode.Exclusive, new TableName("a\"b\\c"), "second").AcquireAsync(block: false));
            var filter = new PgLockFilter
            {
                Relations = [new TableName("public", "a\"b\\c"), "second"],
                Databases = [database.Name],
                Pids = [connection.ProcessID],
                LockTypes = ["relation"],
                Modes = [PgLockMode.Exclusive],
                States = ["active"],
                Users = ["postgres"],
            };
            Assert.Equal(2, (await source.GetLocksAsync(filter)).Count(found => found.Relation is "a\"b\\c" or "second") + (await source.GetLocksAsync(filter with { States = ["idle in transaction"] })).Count);
        }

        Assert.Equal(2, (await connection.GetLocksAsync(new PgLockFilter { Keys = [Key, (1, 2)] })).Count);
        var root = Assert.Single((await connection.GetWaitGraphAsync(new PgLockFilter { Keys = [Key] })).Roots);
        Assert.Equal(waiter.ProcessID, Assert.Single(root.Waiters).Pid);
        var result = await connection.ClearLocksAsync(new PgLockFilter { Keys = [Key], Granted = false }, PgSignal.Cancel, new PgClearOptions { IncludeSuperusers = true });
        Assert.True(result.IsClear);
        await Assert.ThrowsAsync<LockNotAcquiredException>(() => waiting);
        await using var pool = new LockPool(source);
        await using var pooled = await pool.AcquireLockAsync(LockKey.All(Key.Name + ":a", Key.Name + ":b"));
        Assert.NotEmpty(await wait.GetHoldersAsync());
        await waiter.DisposeAsync();
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet"), InlineData("Odbc")]
    public async Task Bytes_that_are_no_text_in_another_sessions_query_spoil_no_answer(string driver)
    {
        var name = "ascii_" + Guid.NewGuid().ToString("N");
        await using var database = new PostgreSqlTestServer.TestDatabase(name);
        await using (var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync())
        {
            await administrator.ExecuteAsync($"create database {name} encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'");
        }

        await using var holding = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={name};Pooling=false;Encoding=iso-8859-1;Client Encoding=SQL_ASCII");
        await using var held = new Lock(holding, Key);
        Assert.True(await held.AcquireAsync());
        await holding.ExecuteAsync("select 'caf\u00e9'");
        await using var connection = await Drivers.OpenAsync(driver, name);
        await using var asking = new Lock(connection, Key, Drivers.Interface(driver));
        Assert.Equal("select 'caf?'", Assert.Single(await asking.GetHoldersAsync()).Session!.Query);
        Assert.Contains("is held by pid", (await Assert.ThrowsAsync<LockNotAcquiredException>(() => asking.RunAsync(_ => Task.CompletedTask, TimeSpan.FromMilliseconds(20)))).Message, StringComparison.Ordinal);
        if (connection is NpgsqlConnection npgsql)
        {
            Assert.Equal("select 'caf?'", Assert.Single(await npgsql.GetLocksAsync(new PgLockFilter { Keys = [Key] })).Session!.Query);
            Assert.Empty((await npgsql.GetWaitGraphAsync(new PgLockFilter { Keys = [Key] })).Roots);
        }
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task Tables_types_and_functions_with_the_names_of_the_servers_own_change_nothing(string driver, bool async)
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        await using (var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={database.Name};Pooling=false"))
        {
            await administrator.ExecuteAsync(HostileFunctions);
        }

        await using var connection = await HostileAsync();
        await using var holding = await HostileAsync();
        foreach (var key in new[] { Key, (3, 4), LockKey.All(Key, (1, 2)) })
        {
            foreach (var options in new[] { new LockOptions(), new LockOptions { Shared = true }, new LockOptions { Fencing = true }, new LockOptions { Scope = LockScope.Transaction } })
            {
                await using var transaction = options.Scope == LockScope.Transaction ? await connection.BeginTransactionAsync() : null;
                await using var holder = new Lock(holding, key, Drivers.Interface(driver));
                await using var @lock = new Lock(connection, key, Drivers.Interface(driver), options) { Transaction = transaction };
                Assert.True(await holder.Try(async));
                Assert.False(await @lock.Try(async));
                Assert.False(await @lock.Acquire(async, TimeSpan.FromMilliseconds(20)));
                Assert.Single(await @lock.GetHoldersAsync());
                Assert.True(await holder.Release(async));
                Assert.True(await @lock.Acquire(async, TimeSpan.FromSeconds(10)));
                Assert.Equal(transaction is null, await @lock.Release(async));
            }
        }

        if (driver == "Npgsql")
        {
            var npgsql = (NpgsqlConnection)connection;
            await using var held = new Lock(holding, Key);
            Assert.True(await held.Try(async));
            Assert.Single(await npgsql.GetLocksAsync(new PgLockFilter { Keys = [Key], MinStateAge = TimeSpan.Zero }));
            await npgsql.GetWaitGraphAsync();
            await using (npgsql.LockTimeout(TimeSpan.FromSeconds(1)))
            {
            }

            await npgsql.ExecuteAsync("create table public.one (x int); create table public.two (x int)");
            await using var transaction = await npgsql.BeginTransactionAsync();
            Assert.True(await npgsql.CreateTableLock(PgLockMode.Share, "public.one", "public.two").AcquireAsync(TimeSpan.FromSeconds(10)));
            Assert.False((await npgsql.ClearLocksAsync(new PgLockFilter { Keys = [Key] }, PgSignal.Terminate, new PgClearOptions { DryRun = true, IncludeSuperusers = true })).IsClear);
        }

        await using DbDataSource source = new HostileDataSource(() => HostileAsync());
        await using (var held = await source.AcquireLockAsync(Key, lockInterface: Drivers.Interface(driver)))
        {
            Assert.True(await held.ReleaseAsync());
        }

        await using var pool = new LockPool(source, Drivers.Interface(driver));
        await using var several = await pool.AcquireLockAsync(LockKey.All(Key, (1, 2)));
        await using var one = await pool.AcquireLockAsync(Key.Name + ":one");
        Assert.True(await several.ReleaseAsync());

        async Task<DbConnection> HostileAsync()
        {
            var connection = await Drivers.OpenAsync(driver, database.Name);
            await using var command = connection.CreateCommand();
            command.CommandText = string.Join("; ", HostileTables.Split(", ").Select(table => $"create temporary table {table} (x pg_catalog.int4)")) + "; set search_path = evil, pg_catalog";
            await command.ExecuteNonQueryAsync();
            return connection;
        }
    }

    private sealed class HostileDataSource(Func<Task<DbConnection>> open) : DbDataSource
    {
        public override string ConnectionString => "";

        protected override DbConnection CreateDbConnection() => throw new NotSupportedException();

        protected override async ValueTask<DbConnection> OpenDbConnectionAsync(CancellationToken cancellationToken = default) => await open();
    }

    /// <summary>A role, in a database of its own, that may not read pg_locks.</summary>
    private sealed class BlindRole(PostgreSqlTestServer.TestDatabase database, string address, string odbcAddress) : IAsyncDisposable
    {
        public string Database => database.Name;

        public static async Task<BlindRole> CreateAsync(bool andFunction)
        {
            var database = await PostgreSqlTestServer.CreateDatabaseAsync();
            await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync($"Database={database.Name};Pooling=false");
            await administrator.ExecuteAsync($"revoke select on pg_catalog.pg_locks from public; create role {database.Name} login password 'blind'");
            if (andFunction)
            {
                await administrator.ExecuteAsync("revoke execute on function pg_catalog.pg_lock_status() from public");
            }

            var server = await PostgreSqlTestServer.ServerAsync;
            var odbc = new DbConnectionStringBuilder(useOdbcRules: true) { ConnectionString = server.OdbcConnectionString, ["Database"] = database.Name, ["UID"] = database.Name, ["PWD"] = "blind" };
            return new(database, $"{server.ConnectionString};Database={database.Name};Username={database.Name};Password=blind;Pooling=false", odbc.ConnectionString);
        }

        public DbDataSource CreateSource(string driver) => driver == "Odbc" ? OdbcFactory.Instance.CreateDataSource(odbcAddress) : NpgsqlDataSource.Create(address);

        public async ValueTask DisposeAsync()
        {
            await database.DisposeAsync();
            await using var cleaner = await PostgreSqlTestServer.OpenNpgsqlAsync();
            await cleaner.ExecuteAsync($"drop role {database.Name}");
        }
    }
}
