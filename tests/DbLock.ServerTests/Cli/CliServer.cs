using System.Data.Common;
using System.Globalization;
using DbLock.ServerTests.MariaDb;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary>A server on which dblock is run, and who looks on.</summary>
public abstract class CliServer
{
    public static CliServer PostgreSql { get; } = new PostgreSqlServer();

    public static CliServer MariaDb { get; } = new MariaDbServer();

    public abstract TestServer Server { get; }

    /// <summary>Gets what a message calls a session.</summary>
    public abstract string Session { get; }

    public async Task<(string, string?)[]> EnvironmentAsync() => [("DBLOCK_CONNECTION", await AddressAsync(await PortAsync()))];

    /// <summary>Returns what is locked for a key, as the command sees it.</summary>
    public abstract string Locked(string key);

    /// <summary>Returns the address of the server, or of what is before it at another port.</summary>
    public abstract Task<string> AddressAsync(int port);

    public abstract Task<int> PortAsync();

    /// <summary>Opens a connection that is not pooled.</summary>
    public abstract Task<DbConnection> OpenAsync();

    public abstract Task KillHolderAsync(LockKey key);

    private sealed class PostgreSqlServer : CliServer
    {
        public override TestServer Server => PostgreSqlTestServer.Instance;

        public override string Session => "pid";

        public override string Locked(string key) => ((LockKey)key).Number.ToString(CultureInfo.InvariantCulture);

        public override async Task<string> AddressAsync(int port) => new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString)
        {
            Host = "127.0.0.1",
            Port = port,
        }.ConnectionString;

        public override async Task<int> PortAsync() => (await PostgreSqlTestServer.ServerAsync).Port;

        public override async Task<DbConnection> OpenAsync() => await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");

        public override Task KillHolderAsync(LockKey key) => PostgreSqlTestServer.Instance.KillHolderAsync(key);
    }

    private sealed class MariaDbServer : CliServer
    {
        public override TestServer Server => MariaDbTestServer.Instance;

        public override string Session => "session";

        public override string Locked(string key) => key;

        public override async Task<string> AddressAsync(int port) => "mariadb:" + new DbConnectionStringBuilder
        {
            ConnectionString = (await MariaDbTestServer.ServerAsync).ConnectionString,
            ["Port"] = port,
        }.ConnectionString;

        public override async Task<int> PortAsync() => Convert.ToInt32(
            new DbConnectionStringBuilder { ConnectionString = (await MariaDbTestServer.ServerAsync).ConnectionString }["Port"], CultureInfo.InvariantCulture);

        public override Task<DbConnection> OpenAsync() => MariaDbDrivers.OpenAsync("MySqlConnector");

        public override Task KillHolderAsync(LockKey key) => MariaDbTestServer.Instance.KillHolderAsync(key);
    }
}
