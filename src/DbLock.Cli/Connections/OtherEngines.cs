using System.Data.Common;
using System.Globalization;
using System.Text.RegularExpressions;

namespace DbLock.Cli;

/// <summary>
/// Addresses of databases that are not PostgreSQL's: a URL, or a scheme before a provider's connection string, or that alone.
/// </summary>
internal static partial class OtherEngines
{
    private const string HowToWrite =
        "write mysql://user@host:3306/database, mariadb://…, sqlserver://user@host:1433/database, sqlite:FILE or "
        + "postgres://user@host:5432/database, with %xx for special characters, or such a scheme and a provider's connection string "
        + "(mysql:Server=…;User ID=…)";

    // https://learn.microsoft.com/dotnet/standard/data/sqlite/connection-strings
    private static readonly string[] OfSqlite =
    [
        "Data Source", "DataSource", "Filename", "Mode", "Cache", "Password", "Foreign Keys", "Recursive Triggers", "Default Timeout",
        "Command Timeout", "Pooling", "Vfs",
    ];

    // What SqlClient takes and none of the others does.
    private static readonly string[] OfSqlServer =
    [
        "Data Source", "Initial Catalog", "Integrated Security", "Trusted_Connection", "Encrypt",
        "MultipleActiveResultSets", "Network Library", "ApplicationIntent", "Application Intent", "Authentication",
    ];

    /// <summary>Returns the database that an address leads to; null when it is PostgreSQL's, or none is given.</summary>
    /// <exception cref="UsageException">
    /// It is the address of an engine that dblock does not know, or one that is not understood. The message shows its scheme alone, because
    /// a password may follow it.
    /// </exception>
    public static Database? Find(string? given)
    {
        if (given is null || ConnectionUrl.Is(given))
        {
            return null;
        }

        if (Scheme().Match(given) is { Success: true } address)
        {
            var scheme = address.Groups["scheme"].Value;
            var rest = given[address.Length..].Trim();
            var engine = scheme.ToUpperInvariant();
            UsageException.ThrowIf(
                address.Groups["more"].Success && Known(engine), $"{scheme}: is written with more before or behind it: {HowToWrite}");
            return engine switch
            {
                "MYSQL" or "MARIADB" => new MySqlDatabase(
                    MySqlDatabase.Checked(FromUrl(rest, ("Server", "Database", "User ID", "Password")) ?? rest)),
                "SQLSERVER" or "MSSQL" => SqlServer(FromUrl(rest, (Host, "Initial Catalog", "User ID", "Password")) ?? rest),
                "SQLITE" or "FILE" => new SqliteDatabase(rest.StartsWith("//", StringComparison.Ordinal) ? rest[2..] : rest, isFile: true),
                "ORACLE" or "ORACLEDB" or "MONGODB" or "REDIS" or "REDISS" or "CONSUL" or "ETCD" or "TDS" or "MYSQLX" or "DB2" =>
                    throw new UsageException($"{scheme}: is an address that dblock does not know: {HowToWrite}"),
                _ when rest.StartsWith("//", StringComparison.Ordinal) => throw ConnectionUrl.Malformed(),
                _ => null,
            };
        }

        return OfProvider(given);
    }

    /// <summary>Returns the scheme of a server that was found; null when dblock does not work with it.</summary>
    public static string? SchemeOf(string server) => server switch
    {
        "MariaDB" => "mariadb:",
        "MySQL" or "MySQL or MariaDB" => "mysql:",
        "SQL Server" => "sqlserver:",
        _ => null,
    };

    private const string Host = "Data Source";

    private static bool Known(string engine) => engine is "MYSQL" or "MARIADB" or "SQLSERVER" or "MSSQL" or "SQLITE";

    // Npgsql's words are looked for first, as they were before there were other engines.
    private static Database? OfProvider(string given)
    {
        var words = new DbConnectionStringBuilder();
        try
        {
            words.ConnectionString = given;
        }
        catch (ArgumentException)
        {
            return null;
        }

        List<string> names = [.. words.Keys.Cast<string>()];
        bool Has(string[] known) => names.Exists(name => known.Contains(name, StringComparer.OrdinalIgnoreCase));
        bool HasOnly(string[] known) => names.TrueForAll(name => known.Contains(name, StringComparer.OrdinalIgnoreCase));
        return names.Count == 0 || IsNpgsqls(given) ? null
            : Has(["Data Source", "DataSource", "Filename"]) && HasOnly(OfSqlite) ? new SqliteDatabase(given, isFile: false)
            : Has(OfSqlServer) ? SqlServer(given)
            : MySqlDatabase.TryCheck(given) is { } mySql ? new MySqlDatabase(mySql) : null;
    }

    private static bool IsNpgsqls(string given)
    {
        try
        {
            return new Npgsql.NpgsqlConnectionStringBuilder(given).Host is not null;
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            return false;
        }
    }

    // Returns the connection string of a URL; null when it is none.
    private static string? FromUrl(string text, (string Host, string Database, string User, string Password) keywords)
    {
        if (!text.StartsWith("//", StringComparison.Ordinal))
        {
            return null;
        }

        if (Place().Match(text) is not { Success: true } url)
        {
            throw new UsageException($"the database is given in a way that is not understood: {HowToWrite}");
        }

        var builder = new DbConnectionStringBuilder();
        Set(keywords.User, "user");
        Set(keywords.Password, "password");
        Set(keywords.Database, "database");
        var (host, port) = (Value("host").Trim('[', ']'), url.Groups["port"].Value);
        UsageException.ThrowIf(
            port.Length > 0 && !(ushort.TryParse(port, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number > 0),
            "the URL has a port that is none: give a number from 1 to 65535");
        host = host.Length == 0 ? "localhost" : host;
        builder[keywords.Host] = keywords.Host == Host && port.Length > 0 ? $"{host},{port}" : host;
        if (keywords.Host != Host && port.Length > 0)
        {
            builder["Port"] = port;
        }

        foreach (var part in url.Groups["query"].Value.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var pair = part.Split('=', 2);
            builder[Uri.UnescapeDataString(pair[0])] = pair.Length > 1 ? Uri.UnescapeDataString(pair[1]) : "";
        }

        return builder.ConnectionString;

        string Value(string group) => Uri.UnescapeDataString(url.Groups[group].Value);

        void Set(string keyword, string group)
        {
            if (url.Groups[group].Length > 0)
            {
                builder[keyword] = Value(group);
            }
        }
    }

#if ONE_FILE
    private static Database SqlServer(string given) => throw new UsageException(
        "this dblock is one file, into which SQL Server's provider cannot be compiled: install the .NET tool, which has it (dotnet tool "
        + "install --global DbLock.Cli --prerelease)");
#else
    private static SqlServerDatabase SqlServer(string given) => new SqlServerDatabase(SqlServerDatabase.Checked(given));
#endif

    /// <summary>Returns the refusal of a connection string that is not understood. It quotes nothing of it.</summary>
    public static UsageException Malformed(string provider) =>
        new($"the connection string is not one that {provider} understands: {HowToWrite}");

    [GeneratedRegex(@"^\s*(?<more>jdbc:)?(?<scheme>[A-Za-z][A-Za-z0-9]*)(?<more>\+[A-Za-z0-9_+]+)?:", RegexOptions.ExplicitCapture)]
    private static partial Regex Scheme();

    [GeneratedRegex(
        @"^//((?<user>[^:@/?]*)(:(?<password>[^@/?]*))?@)?(?<host>\[[^\]]*\]|[^:/?\[]*)(:(?<port>[0-9]*))?"
        + @"(/(?<database>[^?]*))?(\?(?<query>.*))?$",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Place();
}
