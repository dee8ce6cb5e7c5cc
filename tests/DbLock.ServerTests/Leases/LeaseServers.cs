using System.Collections.Concurrent;
using System.Data.Common;
using System.Data.Odbc;
using DbLock.LocalServers;
using Microsoft.Data.Sqlite;
using MySqlConnector;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Every way to a table of leases: an engine, a provider, a pooler between.</summary>
internal static class LeaseServers
{
    private static readonly ConcurrentDictionary<string, Lazy<Task<DbDataSource>>> Sources = [];

    /// <summary>Gets their names, for a theory.</summary>
    public static TheoryData<string> All =>
    [
        "Npgsql", "AdoNet on PostgreSQL", "Odbc on PostgreSQL", "PgBouncer, transaction", "PgBouncer, statement", "MySqlConnector", "MySql.Data", "Odbc on MariaDB", "Sqlite",
    ];

    /// <summary>Gets one for each engine.</summary>
    public static TheoryData<string> Engines => ["Npgsql", "MySqlConnector", "Sqlite"];

    /// <summary>Returns the data source of a way, which is shared by all tests, and whose table is made.</summary>
    public static Task<DbDataSource> SourceAsync(string way) => Sources.GetOrAdd(way, way => new(async () =>
    {
        var source = await NewSourceAsync(way);
        await LeaseTable.Default.CreateAsync(source, Interface(way));
        if (way == "Sqlite")
        {
            await AskAsync(source, "pragma journal_mode = wal");
        }

        return source;
    })).Value;

    public static async Task<object?> AskAsync(DbDataSource source, string sql)
    {
        await using var connection = await source.OpenConnectionAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        return await command.ExecuteScalarAsync();
    }

    /// <summary>Returns a data source of its own, as another process has one.</summary>
    public static async Task<DbDataSource> NewSourceAsync(string way) => way switch
    {
        "Npgsql" or "AdoNet on PostgreSQL" => NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString),
        "Odbc on PostgreSQL" => OdbcFactory.Instance.CreateDataSource((await PostgreSqlTestServer.ServerAsync).OdbcConnectionString),
        "PgBouncer, transaction" => NpgsqlDataSource.Create((await Poolers.TransactionAsync).ConnectionString),
        "PgBouncer, statement" => NpgsqlDataSource.Create((await Poolers.StatementAsync).ConnectionString),
        "MySqlConnector" => new MySqlDataSource((await MariaDbTestServer.ServerAsync).ConnectionString),
        "MySql.Data" => MySql.Data.MySqlClient.MySqlClientFactory.Instance.CreateDataSource((await MariaDbTestServer.ServerAsync).ConnectionString),
        "Odbc on MariaDB" => OdbcFactory.Instance.CreateDataSource((await MariaDbTestServer.ServerAsync).OdbcConnectionString),
        "Sqlite" => SqliteFactory.Instance.CreateDataSource($"Data Source={SqliteFile.Path}"),
        _ => throw new ArgumentOutOfRangeException(nameof(way), way, "There is no such way."),
    };

    public static LockInterface? Interface(string way) => way == "AdoNet on PostgreSQL" ? LockInterface.AdoNet : null;

    private static class Poolers
    {
        public static Task<PgBouncer> TransactionAsync { get; } = StartAsync("transaction");

        public static Task<PgBouncer> StatementAsync { get; } = StartAsync("statement");

        private static async Task<PgBouncer> StartAsync(string mode) => await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, mode);
    }

    private static class SqliteFile
    {
        static SqliteFile() => AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(System.IO.Path.GetDirectoryName(Path)!, recursive: true);

        public static string Path { get; } = System.IO.Path.Combine(Directory.CreateTempSubdirectory("dblock-leases-").FullName, "locks.db");
    }
}
