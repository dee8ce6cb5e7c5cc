using System.Data.Common;

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
}
