using System.Data.Common;

namespace DbLock.LocalServers;

/// <summary>The SQL Server for tests: only one that is there already.</summary>
public static class SqlServer
{
    /// <summary>Why tests are skipped without one.</summary>
    public const string SkipReason = "SQL Server: set DBLOCK_TEST_SQLSERVER to a connection string, as SqlClient takes it.";

    /// <summary>DBLOCK_TEST_SQLSERVER, as SqlClient takes it; null when it is not set.</summary>
    public static string? ConnectionString { get; } =
        Environment.GetEnvironmentVariable("DBLOCK_TEST_SQLSERVER") is { Length: > 0 } connectionString ? connectionString : null;

    /// <summary>The connection string for FreeTDS, without a DSN; null when DBLOCK_TEST_SQLSERVER is not set.</summary>
    /// <exception cref="InvalidOperationException">FreeTDS is not installed.</exception>
    public static string? OdbcConnectionString => ConnectionString is null ? null : ToOdbc(ConnectionString);

    /// <summary>Translates a SqlClient connection string for FreeTDS.</summary>
    /// <exception cref="InvalidOperationException">FreeTDS is not installed.</exception>
    public static string ToOdbc(string connectionString)
    {
        var client = new DbConnectionStringBuilder { ConnectionString = connectionString };
        var (host, port) = Address(Value(client, "Data Source", "Server", "Address", "Addr", "Network Address") ?? "localhost");
        var odbc = new DbConnectionStringBuilder(useOdbcRules: true)
        {
            ["Driver"] = OdbcDriverFile.Find("libtdsodbc.so", "tdsodbc"),
            ["Server"] = host,
            ["Database"] = Value(client, "Initial Catalog", "Database") ?? "master",
            ["UID"] = Value(client, "User ID", "UID", "User") ?? "",
            ["PWD"] = Value(client, "Password", "PWD") ?? "",
            ["TDS_Version"] = "7.4",
            ["ClientCharset"] = "UTF-8",
        };
        if (port is not null)
        {
            odbc["Port"] = port;
        }

        return odbc.ConnectionString;
    }

    private static string? Value(DbConnectionStringBuilder builder, params IEnumerable<string> names) =>
        names.Select(name => builder.TryGetValue(name, out var value) ? value as string : null).FirstOrDefault(value => value is not null);

    // "host", "host,port", "tcp:host,port", "host\instance"; "." and "(local)" are this machine. An instance has no fixed port.
    private static (string Host, string? Port) Address(string dataSource)
    {
        var address = dataSource.StartsWith("tcp:", StringComparison.OrdinalIgnoreCase) ? dataSource[4..] : dataSource;
        var parts = address.Split(',', count: 2, StringSplitOptions.TrimEntries);
        var host = parts[0] is "." or "(local)" ? "localhost" : parts[0];
        var port = parts.Length == 2 ? parts[1] : host.Contains('\\', StringComparison.Ordinal) ? null : "1433";
        return (host, port);
    }
}
