using System.Data.Common;
using System.Data.Odbc;
using System.Globalization;
using Npgsql;
using ThirdParty;

namespace DbLock.ServerTests;

// One line for each driver and server. SQL Server's are skipped unless DBLOCK_TEST_SQLSERVER is set.
public sealed class NpgsqlOnPostgreSql() : PostgreSqlContract(LockInterface.Npgsql)
{
    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenNpgsqlAsync();
}

public sealed class AdoNetOnPostgreSql() : PostgreSqlContract(LockInterface.AdoNet)
{
    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenNpgsqlAsync();
}

public sealed class OdbcOnPostgreSql() : PostgreSqlContract(LockInterface.Odbc)
{
    // psqlODBC rolls back to a savepoint of its own.
    protected override bool AnErrorAbortsTheTransaction => false;

    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenOdbcAsync();
}

public sealed class OdbcOnMariaDb() : LockContract(MariaDbTestServer.Instance, LockInterface.Odbc)
{
    protected override bool HasFencing => false;

    protected override async Task<DbConnection> ConnectAsync() => await MariaDbTestServer.OpenAsync();
}

// MySQL's providers share the dialect and differ in all else: what they cancel, how they refuse, and when a pooled session is cleaned.
public abstract class AdoNetOnMariaDb<TConnection>(bool pooled) : LockContract(MariaDbTestServer.Instance, LockInterface.AdoNet)
    where TConnection : DbConnection, new()
{
    protected override bool HasFencing => false;

    protected override async Task<DbConnection> ConnectAsync() => await MariaDbTestServer.OpenAsync<TConnection>(pooled);

    [Fact]
    public async Task A_hundred_keys_are_one_lock_and_more_are_refused_before_the_server_breaks()
    {
        var connection = await OpenAsync();
        var keys = Enumerable.Range(0, 101).Select(n => (LockKey)string.Create(CultureInfo.InvariantCulture, $"{Key}:{n}")).ToList();
        var hundred = NewLock(connection, key: LockKey.All(keys.Take(100)));
        Assert.True(await hundred.AcquireAsync(TimeSpan.FromSeconds(30)));
        Assert.True(await Server.IsHeldAsync(keys[99]));
        Assert.True(await hundred.ReleaseAsync());
        Assert.Contains("at most 100", (await Assert.ThrowsAsync<NotSupportedException>(() => NewLock(connection, key: LockKey.All(keys)).AcquireAsync().AsTask())).Message, StringComparison.Ordinal);
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

// A driver and a dialect from outside src/.
public sealed class ThirdPartyOnPostgreSql() : LockContract(HashTextTestServer.Instance, LockInterface.Plain)
{
    protected override bool ShowsEnlistment => false;

    protected override bool HasFencing => false;

    protected override bool AnErrorAbortsTheTransaction => true;

    protected override bool HasSeveral => false;

    // It sends the name itself, and PostgreSQL has no text with a NUL in it.
    protected override bool TakesNul => false;

    protected override async Task<DbConnection> ConnectAsync() => await PostgreSqlTestServer.OpenNpgsqlAsync();
}

public sealed class InMemory() : LockContract(InMemoryTestServer.Instance, LockInterface.InMemory)
{
    protected override int Races => 1000;

    protected override async Task<DbConnection> ConnectAsync()
    {
        var connection = InMemoryTestServer.Server.CreateConnection();
        await connection.OpenAsync();
        return connection;
    }
}

public sealed class AdoNetOnSqlServer() : LockContract(SqlServerTestServer.Instance, LockInterface.AdoNet)
{
    protected override bool HasFencing => false;

    protected override Task<DbConnection> ConnectAsync() => SqlServerTestServer.OpenSqlClientAsync();
}

public sealed class OdbcOnSqlServer() : LockContract(SqlServerTestServer.Instance, LockInterface.Odbc)
{
    protected override bool HasFencing => false;

    protected override Task<DbConnection> ConnectAsync() => Task.FromResult(SqlServerTestServer.OpenOdbc());
}

public sealed class LockPoolOverAdoNet() : LockPoolContract(PostgreSqlTestServer.Instance, LockInterface.AdoNet)
{
    protected override async Task<DbDataSource> CreateSourceAsync(string more) => NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};{more}");

    protected override Task KillHolderAsync(LockKey key) => PostgreSqlTestServer.Instance.KillHolderAsync(key);
}

public sealed class LockPoolOverOdbc() : LockPoolContract(PostgreSqlTestServer.Instance, LockInterface.Odbc)
{
    protected override async Task<DbDataSource> CreateSourceAsync(string more) => OdbcFactory.Instance.CreateDataSource((await PostgreSqlTestServer.ServerAsync).OdbcConnectionString);

    protected override Task KillHolderAsync(LockKey key) => PostgreSqlTestServer.Instance.KillHolderAsync(key);
}

public sealed class LockPoolInMemory() : LockPoolTurnContract(InMemoryTestServer.Instance, LockInterface.InMemory)
{
    protected override Task<DbDataSource> CreateSourceAsync(string more) => Task.FromResult(InMemoryTestServer.Server.CreateDataSource());

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
