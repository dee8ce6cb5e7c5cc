using System.Data.Common;
using System.Data.Odbc;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>The three drivers on PostgreSQL, by their names.</summary>
internal static class Drivers
{
    /// <summary>Gets each in both modes, for a theory.</summary>
    public static TheoryData<string, bool> All => new()
    {
        { "Npgsql", false }, { "Npgsql", true }, { "AdoNet", false }, { "AdoNet", true }, { "Odbc", false }, { "Odbc", true },
    };

    public static LockInterface Interface(string driver) => driver switch
    {
        "Npgsql" => LockInterface.Npgsql,
        "AdoNet" => LockInterface.AdoNet,
        _ => LockInterface.Odbc,
    };

    /// <summary>Opens a connection that the driver can use.</summary>
    public static async Task<DbConnection> OpenAsync(string driver, string database = "postgres") => driver == "Odbc"
        ? await PostgreSqlTestServer.OpenOdbcAsync(database)
        : await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database}");

    /// <summary>Opens a connection that is not pooled, by way of a port of this machine.</summary>
    public static async Task<DbConnection> OpenAsync(string driver, int port)
    {
        var server = await PostgreSqlTestServer.ServerAsync;
        if (driver == "Odbc")
        {
            var odbc = new OdbcConnection(new DbConnectionStringBuilder(useOdbcRules: true)
            {
                ConnectionString = server.OdbcConnectionString,
                ["Server"] = "127.0.0.1",
                ["Port"] = port,
            }.ConnectionString);
            odbc.Open();
            return odbc;
        }

        var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(server.ConnectionString) { Host = "127.0.0.1", Port = port, Pooling = false }.ConnectionString);
        await connection.OpenAsync();
        return connection;
    }
}
