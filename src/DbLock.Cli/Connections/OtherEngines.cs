using System.Text.RegularExpressions;

namespace DbLock.Cli;

/// <summary>Addresses of databases that are no addresses of PostgreSQL.</summary>
internal static partial class OtherEngines
{
    /// <summary>Refuses such an address. The message shows its scheme alone, because a password may follow it.</summary>
    /// <exception cref="UsageException">It is the address of another engine, or a URL that is not understood.</exception>
    public static void Refuse(string? given)
    {
        if (given is null)
        {
            return;
        }

        var scheme = Scheme().Match(given).Groups["scheme"].Value;
        var name = scheme.ToUpperInvariant() switch
        {
            "MYSQL" or "MYSQLX" => "MySQL",
            "MARIADB" => "MariaDB",
            "SQLSERVER" or "MSSQL" or "TDS" => "SQL Server",
            "SQLITE" or "SQLITE3" => "SQLite",
            "ORACLE" or "ORACLEDB" => "Oracle",
            "MONGODB" or "REDIS" or "REDISS" or "CONSUL" or "ETCD" => scheme,
            _ => null,
        };
        if (name is not null)
        {
            throw new UsageException(
                $"{scheme}: is an address of {name}, and dblock works with PostgreSQL alone: {ConnectionUrl.HowToWrite}");
        }

        if (OtherWords().Match(given) is { Success: true } word)
        {
            throw new UsageException(
                $"a connection string with {word.Value} is one of SQL Server or SQLite, and dblock works with PostgreSQL alone: "
                + ConnectionUrl.HowToWrite);
        }

        if (given.Contains("://", StringComparison.Ordinal) && scheme.Length > 0 && !ConnectionUrl.Is(given))
        {
            throw ConnectionUrl.Malformed();
        }
    }

    [GeneratedRegex(@"^\s*(jdbc:)?(?<scheme>[A-Za-z][A-Za-z0-9]*)(\+[A-Za-z0-9_+]+)?:", RegexOptions.ExplicitCapture)]
    private static partial Regex Scheme();

    [GeneratedRegex("\\b(Initial Catalog|Data Source|Integrated Security|Trusted_Connection)(?=\\s*=)", RegexOptions.IgnoreCase)]
    private static partial Regex OtherWords();
}
