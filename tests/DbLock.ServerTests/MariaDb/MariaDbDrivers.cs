using System.Data.Common;
using System.Data.Odbc;

namespace DbLock.ServerTests.MariaDb;

/// <summary>The three providers for MariaDB, by their names.</summary>
internal static class MariaDbDrivers
{
    /// <summary>Gets each in both modes, for a theory.</summary>
    public static TheoryData<string, bool> Both => new()
    {
        { "MySqlConnector", false }, { "MySqlConnector", true }, { "MySql.Data", false }, { "MySql.Data", true }, { "Odbc", false }, { "Odbc", true },
    };

    /// <summary>Gets each, for a theory.</summary>
    public static TheoryData<string> All => ["MySqlConnector", "MySql.Data", "Odbc"];

    /// <summary>Opens a connection that is not pooled.</summary>
    public static async Task<DbConnection> OpenAsync(string driver, string? user = null)
    {
        var connection = (await CreateSourceAsync(driver, user, pooled: false)).CreateConnection();
        await connection.OpenAsync();
        return connection;
    }

    /// <summary>Makes a data source.</summary>
    public static async Task<DbDataSource> CreateSourceAsync(string driver, string? user = null, bool pooled = true)
    {
        var server = await MariaDbTestServer.ServerAsync;
        var builder = new DbConnectionStringBuilder(useOdbcRules: driver == "Odbc")
        {
            ConnectionString = driver == "Odbc" ? server.OdbcConnectionString : server.ConnectionString,
        };
        if (user is not null)
        {
            (builder[driver == "Odbc" ? "UID" : "User ID"], builder[driver == "Odbc" ? "PWD" : "Password"]) = (user, user);
        }

        if (driver != "Odbc")
        {
            builder["Pooling"] = pooled;
        }

        return driver switch
        {
            "MySqlConnector" => new MySqlConnector.MySqlDataSource(builder.ConnectionString),
            "MySql.Data" => MySql.Data.MySqlClient.MySqlClientFactory.Instance.CreateDataSource(builder.ConnectionString),
            _ => OdbcFactory.Instance.CreateDataSource(builder.ConnectionString),
        };
    }
}
