using System.Data.Common;
using System.Data.Odbc;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Servers whose locks are none, or are not where they seem to be.</summary>
public sealed class FakeLockTests
{
    private static readonly Lazy<Task<(PostgreSqlServer Primary, PostgreSqlServer Standby)>> Pair = new(async () =>
    {
        var primary = await PostgreSqlServer.StartPrivateAsync();
        return (primary, await primary.StartStandbyAsync());
    });

    private LockKey Key { get; } = "fake:" + Guid.NewGuid();

    public static TheoryData<string> Interfaces => ["Npgsql", "AdoNet", "Odbc"];

    [Theory, MemberData(nameof(Interfaces))]
    public async Task A_standby_is_refused(string name)
    {
        var (_, standby) = await Pair.Value;
        await using var connection = await OpenAsync(name, standby.ConnectionString, standby.OdbcConnectionString);
        await using var @lock = new Lock(connection, 1, Drivers.Interface(name));
        await AssertRefusedAsync(@lock, "Connect to the primary");
        Assert.Contains("Connect to the primary", (await Assert.ThrowsAsync<LockException>(() => @lock.GetHoldersAsync().AsTask())).Message, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Interfaces))]
    public async Task A_server_that_says_it_is_CockroachDB_is_refused(string name)
    {
        var (primary, _) = await Pair.Value;
        await using var administrator = new NpgsqlConnection(primary.ConnectionString);
        await administrator.OpenAsync();
        var database = "cockroach_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(administrator, $"create database {database}");
        var builder = new NpgsqlConnectionStringBuilder(primary.ConnectionString) { Database = database, Pooling = false };
        await using (var liar = new NpgsqlConnection(builder.ConnectionString))
        {
            await liar.OpenAsync();
            await ExecuteAsync(liar, """
                set allow_system_table_mods = on;
                create or replace function pg_catalog.version() returns text language sql as $$ select 'CockroachDB CCL v25.4' $$;
                create or replace function pg_catalog.pg_try_advisory_lock(bigint) returns boolean language sql as $$ select true $$;
                create or replace function pg_catalog.pg_advisory_unlock(bigint) returns boolean language sql as $$ select true $$;
                """);

            // Everybody has the lock.
            await using var other = new NpgsqlConnection(builder.ConnectionString);
            await other.OpenAsync();
            foreach (var session in new[] { liar, other })
            {
                await using var command = new NpgsqlCommand("select pg_catalog.pg_try_advisory_lock(1)", session);
                Assert.Equal(true, await command.ExecuteScalarAsync());
            }
        }

        var odbc = new DbConnectionStringBuilder(useOdbcRules: true) { ConnectionString = primary.OdbcConnectionString, ["Database"] = database };
        await using (var connection = await OpenAsync(name, builder.ConnectionString, odbc.ConnectionString))
        {
            await using var @lock = new Lock(connection, 1, Drivers.Interface(name));
            await AssertRefusedAsync(@lock, "CockroachDB");
        }

        await ExecuteAsync(administrator, $"drop database {database} with (force)");
    }

    // ODBC does not tell which session it believes it has, so a pooler cannot be seen there: docs/guarantees.md says so.
    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task A_pooler_in_transaction_mode_is_refused(string name)
    {
        var (primary, _) = await Pair.Value;
        await using var pooler = await PgBouncer.StartAsync(primary, "transaction");
        await using var connection = await OpenAsync(name, pooler.ConnectionString + ";Pooling=false", "");
        await using var @lock = new Lock(connection, Key, Drivers.Interface(name));
        await AssertRefusedAsync(@lock, "LockOptions.TrustPooler");

        // A lock that ends with its transaction never leaves the server session that the pooler keeps for it.
        await using var transaction = await connection.BeginTransactionAsync();
        await using var scoped = new Lock(connection, Key, Drivers.Interface(name), new LockOptions { Scope = LockScope.Transaction }) { Transaction = transaction };
        await using var other = await OpenAsync(name, primary.ConnectionString, "");
        await using var direct = new Lock(other, Key, Drivers.Interface(name));
        Assert.True(await scoped.AcquireAsync(TimeSpan.FromSeconds(10)));
        Assert.False(await direct.AcquireAsync(block: false));
        await transaction.CommitAsync();
        Assert.True(await direct.AcquireAsync(block: false));
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task Multiplexing_is_refused(string name)
    {
        var (primary, _) = await Pair.Value;
        await using var connection = await OpenAsync(name, primary.ConnectionString + ";Multiplexing=true", "");
        await using var @lock = new Lock(connection, Key, Drivers.Interface(name));
        foreach (var timeout in new[] { TimeSpan.Zero, Timeout.InfiniteTimeSpan })
        {
            Assert.Contains("Multiplexing", (await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync(timeout).AsTask())).Message, StringComparison.Ordinal);
            await using (var transaction = await connection.BeginTransactionAsync())
            {
                // Bound to one session, but only until the transaction ends.
                await using var inside = new Lock(connection, Key, Drivers.Interface(name)) { Transaction = transaction };
                Assert.Contains("Multiplexing", (await Assert.ThrowsAsync<LockException>(() => inside.AcquireAsync(timeout).AsTask())).Message, StringComparison.Ordinal);
            }

            Assert.Contains("multiplexing is on", Assert.Throws<InvalidOperationException>(() => @lock.Acquire(timeout)).Message, StringComparison.Ordinal);
        }
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task A_pooler_in_session_mode_is_trusted_when_told_so(string name)
    {
        var (primary, _) = await Pair.Value;
        await using var pooler = await PgBouncer.StartAsync(primary, "session");
        await using var connection = await OpenAsync(name, pooler.ConnectionString + ";Pooling=false", "");
        await using var other = await OpenAsync(name, primary.ConnectionString, "");
        await using var refused = new Lock(connection, Key, Drivers.Interface(name));
        await AssertRefusedAsync(refused, "session mode");
        await using var trusting = new Lock(connection, Key, Drivers.Interface(name), new LockOptions { TrustPooler = true });
        await using var direct = new Lock(other, Key, Drivers.Interface(name));
        Assert.True(await trusting.AcquireAsync());
        Assert.False(await direct.AcquireAsync(block: false));
        Assert.True(await trusting.ReleaseAsync());
        Assert.True(await direct.AcquireAsync(block: false));
    }

    private static async Task AssertRefusedAsync(Lock @lock, string remedy)
    {
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(1), Timeout.InfiniteTimeSpan })
        {
            Assert.Contains(remedy, (await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync(timeout).AsTask())).Message, StringComparison.Ordinal);
            Assert.Contains(remedy, Assert.Throws<LockException>(() => @lock.Acquire(timeout)).Message, StringComparison.Ordinal);
            Assert.False(@lock.IsHeld);
        }
    }

    private static async Task<DbConnection> OpenAsync(string name, string connectionString, string odbcConnectionString)
    {
        DbConnection connection = name == "Odbc" ? new OdbcConnection(odbcConnectionString) : new NpgsqlConnection(connectionString);
        await connection.OpenAsync();
        return connection;
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }
}
