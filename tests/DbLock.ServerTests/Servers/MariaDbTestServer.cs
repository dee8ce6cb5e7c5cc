using System.Data.Common;
using System.Data.Odbc;
using System.Globalization;
using DbLock.LocalServers;

namespace DbLock.ServerTests;

public sealed class MariaDbTestServer : TestServer
{
    private static readonly Lazy<Task<MariaDbServer>> Started = new(StartAsync);

    public static MariaDbTestServer Instance { get; } = new();

    public override bool HasShared => false;

    public override bool HasTransactionScope => false;

    public override bool HasEmptyNames => false;

    public override LockDialect Dialect => LockDialect.MariaDb;

    public override string SessionIdSql => "select connection_id()";

    public static Task<MariaDbServer> ServerAsync => Started.Value;

    // The sequence is what a user makes by hand for fencing tokens (docs/fencing.md).
    private static async Task<MariaDbServer> StartAsync()
    {
        var server = await MariaDbServer.StartAsync();
        await using var connection = new OdbcConnection(server.OdbcConnectionString);
        await connection.OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = "create sequence if not exists dblock_fencing";
        await command.ExecuteNonQueryAsync();
        return server;
    }

    public static async Task<OdbcConnection> OpenAsync()
    {
        var connection = new OdbcConnection((await Started.Value).OdbcConnectionString);
        connection.Open();
        return connection;
    }

    /// <summary>Opens a connection of MySqlConnector's or MySql.Data's.</summary>
    public static async Task<TConnection> OpenAsync<TConnection>(bool pooled)
        where TConnection : DbConnection, new()
    {
        var connection = new TConnection { ConnectionString = $"{(await Started.Value).ConnectionString};Pooling={pooled}" };
        await connection.OpenAsync();
        return connection;
    }

    public override async Task<DbConnection> OpenObserverAsync() => await OpenAsync();

    public override Task<bool> IsHeldAsync(LockKey key) => AskWhetherAsync("select is_used_lock(?) is not null", LockDialect.MariaDb.Identify(key));

    public override Task<bool> IsHeldByAsync(long sessionId, LockKey key) =>
        AskWhetherAsync("select coalesce(is_used_lock(?) = ?, 0)", LockDialect.MariaDb.Identify(key), sessionId);

    public override Task<bool> IsWaitingAsync(long sessionId) =>
        AskWhetherAsync("select count(*) from information_schema.processlist where id = ? and state = 'User lock'", sessionId);

    public override Task KillAsync(long sessionId) => AskAsync($"kill {sessionId.ToString(CultureInfo.InvariantCulture)}");

    public async Task KillHolderAsync(LockKey key) =>
        await KillAsync(Convert.ToInt64(await AskAsync("select is_used_lock(?)", LockDialect.MariaDb.Identify(key)), CultureInfo.InvariantCulture));

    public Task KillQueryAsync(long sessionId) => AskAsync($"kill query {sessionId.ToString(CultureInfo.InvariantCulture)}");
}
