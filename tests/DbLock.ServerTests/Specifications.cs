using System.Data.Common;
using System.Data.Odbc;
using System.Globalization;
using DbLock.ServerTests.MariaDb;
using Npgsql;

namespace DbLock.ServerTests;

// One line for each driver and server. SQL Server's are skipped unless DBLOCK_TEST_SQLSERVER is set.
public sealed class NpgsqlOnPostgreSql() : PostgreSqlSpecification(LockInterface.Npgsql)
{
    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenNpgsqlAsync();
}

public sealed class AdoNetOnPostgreSql() : PostgreSqlSpecification(LockInterface.AdoNet)
{
    protected override LockInterface Found => LockInterface.Npgsql;

    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenNpgsqlAsync();
}

public sealed class OdbcOnPostgreSql() : PostgreSqlSpecification(LockInterface.Odbc)
{
    // psqlODBC rolls back to a savepoint of its own.
    protected override bool AnErrorAbortsTheTransaction => false;

    protected override bool ReadsAhead => true;

    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenOdbcAsync();
}

public sealed class OdbcOnMariaDb() : LockSpecification(MariaDbTestServer.Instance, LockInterface.Odbc)
{
    protected override bool ReadsAhead => true;

    protected override async Task<DbConnection> ConnectAsync() => await MariaDbTestServer.OpenAsync();
}

// MySQL's providers share the dialect and differ in all else: what they cancel, how they refuse, and when a pooled session is cleaned.
public abstract class AdoNetOnMariaDb<TConnection>(bool pooled) : LockSpecification(MariaDbTestServer.Instance, LockInterface.AdoNet)
    where TConnection : DbConnection, new()
{
    protected override async Task<DbConnection> ConnectAsync() => await MariaDbTestServer.OpenAsync<TConnection>(pooled);

    [Fact]
    public async Task A_thousand_keys_are_one_lock_and_more_are_refused()
    {
        var connection = await OpenAsync();
        var keys = Enumerable.Range(0, 1001).Select(n => (LockKey)string.Create(CultureInfo.InvariantCulture, $"{Key}:{n}")).ToList();
        var thousand = NewLock(connection, key: LockKey.All(keys.Take(1000)));
        foreach (var wait in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(30) })
        {
            Assert.True(await thousand.AcquireAsync(wait));
            Assert.True(await Server.IsHeldAsync(keys[999]));
            Assert.True(await thousand.ReleaseAsync());
            Assert.Empty(await WhereAsync([keys[0], keys[500], keys[999]], Server.IsHeldAsync));
        }

        // One that is held elsewhere: nothing is kept.
        var other = NewLock(await OpenAsync(), key: keys[700]);
        Assert.True(await other.AcquireAsync(block: false));
        Assert.False(await thousand.AcquireAsync(block: false));
        Assert.Empty(await WhereAsync([keys[0], keys[699], keys[999]], Server.IsHeldAsync));

        var more = NewLock(connection, key: LockKey.All(keys));
        var error = await Assert.ThrowsAsync<NotSupportedException>(() => more.AcquireAsync().AsTask());
        Assert.Contains("at most 1000", error.Message, StringComparison.Ordinal);
        Assert.False(await Server.IsHeldAsync(keys[0]));
    }
}

public sealed class MySqlConnectorOnMariaDb() : AdoNetOnMariaDb<MySqlConnector.MySqlConnection>(pooled: false);

public sealed class MySqlConnectorPooledOnMariaDb() : AdoNetOnMariaDb<MySqlConnector.MySqlConnection>(pooled: true);

public sealed class MySqlDataOnMariaDb() : AdoNetOnMariaDb<MySql.Data.MySqlClient.MySqlConnection>(pooled: false)
{
    protected override bool ShowsCompletedTransactions => false;
}

public sealed class MySqlDataPooledOnMariaDb() : AdoNetOnMariaDb<MySql.Data.MySqlClient.MySqlConnection>(pooled: true)
{
    protected override bool ShowsCompletedTransactions => false;
}

public sealed class InMemory() : LockSpecification(InMemoryTestServer.Instance, LockInterface.InMemory)
{
    protected override int Races => 1000;

    protected override async Task<DbConnection> ConnectAsync()
    {
        var connection = InMemoryTestServer.Server.CreateConnection();
        await connection.OpenAsync();
        return connection;
    }
}

public sealed class AdoNetOnSqlServer() : LockSpecification(SqlServerTestServer.Instance, LockInterface.AdoNet)
{
    protected override Task<DbConnection> ConnectAsync() => SqlServerTestServer.OpenSqlClientAsync();
}

public sealed class OdbcOnSqlServer() : LockSpecification(SqlServerTestServer.Instance, LockInterface.Odbc)
{
    protected override bool ReadsAhead => true;

    protected override Task<DbConnection> ConnectAsync() => Task.FromResult(SqlServerTestServer.OpenOdbc());
}

public sealed class LockPoolOverAdoNet() : PoolSpecification(PostgreSqlTestServer.Instance, LockInterface.AdoNet)
{
    protected override async Task<DbDataSource> CreateSourceAsync() =>
        NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);

    protected override Task KillHolderAsync(LockKey key) => PostgreSqlTestServer.Instance.KillHolderAsync(key);
}

public sealed class LockPoolOverOdbc() : PoolSpecification(PostgreSqlTestServer.Instance, LockInterface.Odbc)
{
    protected override async Task<DbDataSource> CreateSourceAsync() =>
        OdbcFactory.Instance.CreateDataSource((await PostgreSqlTestServer.ServerAsync).OdbcConnectionString);

    protected override Task KillHolderAsync(LockKey key) => PostgreSqlTestServer.Instance.KillHolderAsync(key);
}

public abstract class LockPoolOnMariaDb(string driver, LockInterface lockInterface)
    : PoolSpecification(MariaDbTestServer.Instance, lockInterface)
{
    protected override Task<DbDataSource> CreateSourceAsync() => MariaDbDrivers.CreateSourceAsync(driver);

    protected override Task KillHolderAsync(LockKey key) => MariaDbTestServer.Instance.KillHolderAsync(key);
}

public sealed class LockPoolOverMySqlConnectorOnMariaDb() : LockPoolOnMariaDb("MySqlConnector", LockInterface.AdoNet);

public sealed class LockPoolOverMySqlDataOnMariaDb() : LockPoolOnMariaDb("MySql.Data", LockInterface.AdoNet);

public sealed class LockPoolOverOdbcOnMariaDb() : LockPoolOnMariaDb("Odbc", LockInterface.Odbc);

public sealed class LockPoolInMemory() : PoolTurnSpecification(InMemoryTestServer.Instance, LockInterface.InMemory)
{
    protected override Task<DbDataSource> CreateSourceAsync() => Task.FromResult(InMemoryTestServer.Server.CreateDataSource());

    protected override Task KillHolderAsync(LockKey key)
    {
        var holder = 1;
        while (!InMemoryTestServer.Server.IsHeldBy(holder, key))
        {
            holder++;
        }

        return InMemoryTestServer.Instance.KillAsync(holder);
    }
}
