using System.Data.Common;
using System.Data.Odbc;
using DbLock;
using Npgsql;

namespace Demo;

/// <summary>What the drivers differ in: the connection, and the interface that DbLock is given.</summary>
internal static class Drivers
{
    // In the environment, since the strings have a password: everybody on the machine can read a command line.
    public const string NpgsqlVariable = "DBLOCK_DEMO_NPGSQL";
    public const string OdbcVariable = "DBLOCK_DEMO_ODBC";

    public static NpgsqlConnection NewNpgsqlConnection() => new(Environment.GetEnvironmentVariable(NpgsqlVariable));

    public static DbConnection NewConnection(string driver) =>
        driver == "Odbc" ? new OdbcConnection(Environment.GetEnvironmentVariable(OdbcVariable)) : NewNpgsqlConnection();

    // Left out, it would be found from the connection. AdoNet takes any provider's connection, here Npgsql's.
    public static LockInterface Interface(string driver) => driver switch
    {
        "Npgsql" => LockInterface.Npgsql,
        "AdoNet" => LockInterface.AdoNet,
        "Odbc" => LockInterface.Odbc,
        _ => throw new ArgumentException($"There is no driver '{driver}'."),
    };
}
