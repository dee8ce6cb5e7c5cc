using System.CommandLine;
using System.Globalization;
using Npgsql;

namespace DbLock.Cli;

/// <summary>
/// The option that says where the database is. Without it, DBLOCK_CONNECTION says that, or what psql would look at. A connection string is
/// never shown, because it may have a password in it.
/// </summary>
internal static class ConnectionOption
{
    private const string DefaultPort = "5432";

    private static readonly string[] SocketFolders = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

    public static Option<string?> Create() => new("--connection", "-c")
    {
        Description = "The database: a postgres://, mysql://, mariadb:// or sqlserver:// URL, sqlite:FILE, or a provider's connection "
            + "string (docs/cli.md). Else $DBLOCK_CONNECTION, else where psql would go: PGSERVICE, PGHOST, PGHOSTADDR, PGPORT, "
            + "PGDATABASE, PGUSER, PGPASSWORD, PGPASSFILE, PGSSLMODE and the others",
        HelpName = "url",
    };

    /// <summary>Returns the database that is meant.</summary>
    public static Database Database(string? option) => Database(
        option is null ? null : Utf8("--connection", option),
        name => Environment.GetEnvironmentVariable(name) is { } value ? Utf8(name, value) : null);

    public static Database Database(string? option, Func<string, string?> variable) =>
        OtherEngines.Find(option ?? NullIfEmpty(variable("DBLOCK_CONNECTION"))) ?? new PostgreSqlDatabase(Resolve(option, variable));

    /// <summary>Returns the database that is meant, for what PostgreSQL alone can tell.</summary>
    /// <param name="option">The option's value.</param>
    /// <param name="what">What is asked for.</param>
    /// <param name="instead">What helps on other engines.</param>
    /// <exception cref="UsageException">It is another engine's.</exception>
    public static PostgreSqlDatabase PostgreSql(string? option, string what, string instead)
    {
        var database = Database(option);
        return database as PostgreSqlDatabase
            ?? throw new UsageException($"{what} is for PostgreSQL, and this database is one of {database.Engine}: {instead}");
    }

    // The order is libpq's: the option, the service, the other variables, the defaults.
    private static string Resolve(string? option, Func<string, string?> variable)
    {
        var given = option ?? NullIfEmpty(variable("DBLOCK_CONNECTION"));
        var words = new ConnectionWords();
        NpgsqlConnectionStringBuilder builder = [];
        if (given is not null && !ConnectionUrl.TryAddTo(words, given))
        {
            builder = FromConnectionString(given);
        }

        // An Npgsql connection string that names its host needs no other; PGPORT and the like fill in what it leaves out.
        var saysHost = builder.ContainsKey("Host") && !string.IsNullOrEmpty(builder.Host);
        if (!saysHost)
        {
            ServiceFile.AddTo(words, variable);
        }

        words.AddVariables(variable);
        if (saysHost)
        {
            words.Remove("host");
            words.Remove("hostaddr");

            // Npgsql reads psql's own "host=… password=…" as the name of a host.
            if (builder.Host!.Any(c => char.IsWhiteSpace(c) || c == '='))
            {
                throw ConnectionUrl.Malformed();
            }
        }

        words.RefuseWhatNpgsqlCannot();
        foreach (var (keyword, value, source) in words.Keywords())
        {
            if (!IsSaid(builder, keyword))
            {
                Set(builder, keyword, value, source);
            }
        }

        SetPlace(builder, words, saysHost, variable);
        if (builder.Host![0] is '/' or '@' && !builder.Host.Contains(',', StringComparison.Ordinal))
        {
            // A socket of this machine has no encryption, and libpq asks for none there.
            builder.SslMode = SslMode.Disable;
        }

        if (builder.ApplicationName is null)
        {
            builder.ApplicationName = "dblock";
        }

        // PGCLIENTENCODING is for psql's terminal; dblock reads UTF-8.
        if (builder.ClientEncoding is null)
        {
            builder.ClientEncoding = "UTF8";
        }

        builder.Pooling = false;
        builder.Multiplexing = false;

        // Npgsql accepts these for several hosts only. Whether one host is a primary, the lock asks the server anyway.
        if (!builder.Host!.Contains(',', StringComparison.Ordinal)
            && builder.TargetSessionAttributes is "any" or "primary" or "read-write" or "prefer-primary")
        {
            builder.TargetSessionAttributes = null;
        }

        return builder.ConnectionString;
    }

    // https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
    private static void SetPlace(
        NpgsqlConnectionStringBuilder builder, ConnectionWords words, bool saysHost, Func<string, string?> variable)
    {
        if (IsSaid(builder, "Port"))
        {
            words.Remove("port");
        }

        var port = words.Value("port");
        if (saysHost)
        {
            if (port is not null)
            {
                Set(builder, "Port", port, words.Source("port"));
            }

            return;
        }

        var (names, addresses) = (words.Value("host")?.Split(','), words.Value("hostaddr")?.Split(','));
        if (names is not null && addresses is not null && names.Length != addresses.Length)
        {
            throw new UsageException(string.Create(
                CultureInfo.InvariantCulture,
                $"{words.Source("hostaddr")} has {addresses.Length} addresses and {words.Source("host")} {names.Length} hosts: give an "
                + $"address for each host"));
        }

        var count = (addresses ?? names ?? [""]).Length;
        var ports = port?.Split(',') ?? [""];
        if (ports.Length != 1 && ports.Length != count)
        {
            var hosts = count == 1 ? "host" : "hosts";
            throw new UsageException(string.Create(
                CultureInfo.InvariantCulture,
                $"{words.Source("port")} has {ports.Length} ports for {count} {hosts}: give one for all, or one for each"));
        }

        if (addresses is not null && names is not null && builder.SslMode == SslMode.VerifyFull && !addresses.SequenceEqual(names))
        {
            throw new UsageException(
                $"{words.Source("hostaddr")} beside a host whose certificate is verified in full: dblock would look for the address in "
                + $"the certificate; unset {words.Source("hostaddr")}, or use sslmode verify-ca");
        }

        var places = Enumerable.Range(0, count).Select(i =>
        {
            var number = NullIfEmpty(ports[ports.Length == 1 ? 0 : i].Trim())
                ?? (IsSaid(builder, "Port") ? builder.Port.ToString(CultureInfo.InvariantCulture) : DefaultPort);
            if (!ushort.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var parsed) || parsed == 0)
            {
                throw new UsageException($"{words.Source("port")} has a value that is no port: give a number from 1 to 65535");
            }

            var name = NullIfEmpty(names?[i].Trim());
            var address = NullIfEmpty(addresses?[i].Trim());
            return (Host: address ?? name ?? DefaultHost(number), Port: number, Name: name ?? address ?? "localhost");
        }).ToList();
        if (places is [var (host, single, name)])
        {
            Set(builder, "Host", host, words.Source("host"));
            Set(builder, "Port", single, words.Source("port"));
            builder.Password ??= PassFile.Find(builder.Passfile, name, single, builder.Database, builder.Username, variable);
        }
        else
        {
            var list = places.Select(place =>
                place.Host.Contains(':', StringComparison.Ordinal) ? $"[{place.Host}]:{place.Port}" : $"{place.Host}:{place.Port}");
            Set(builder, "Host", string.Join(',', list), words.Source("host"));
        }
    }

    // Without a host, psql connects to the socket of this machine, in the folder for which it was built: one of these.
    private static string DefaultHost(string port) =>
        SocketFolders.FirstOrDefault(folder => File.Exists($"{folder}/.s.PGSQL.{port}")) ?? "localhost";

    private static NpgsqlConnectionStringBuilder FromConnectionString(string text)
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(text);
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            // The exception's message may quote what was given, a password included, and so it is not shown.
            throw ConnectionUrl.Malformed();
        }
    }

    // Npgsql's own builder cannot be asked, since it says that it contains every keyword that it knows.
    private static bool IsSaid(NpgsqlConnectionStringBuilder builder, string keyword) =>
        new System.Data.Common.DbConnectionStringBuilder { ConnectionString = builder.ConnectionString }.ContainsKey(keyword);

    private static void Set(NpgsqlConnectionStringBuilder builder, string keyword, string value, string source)
    {
        try
        {
            builder[keyword] = keyword switch
            {
                "SSL Mode" => value.Replace("-", "", StringComparison.Ordinal),
                "Load Balance Hosts" => value switch { "random" => "true", "disable" => "false", _ => value },

                // A negative time means none to libpq, and zero does to Npgsql.
                "Timeout" when int.TryParse(value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var seconds)
                    && seconds < 0 => "0",
                _ => value,
            };
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException or OverflowException)
        {
            throw new UsageException($"{source} has a value that makes no sense for {keyword}");
        }
    }

    private static string Utf8(string source, string value) => Given.IsUtf8(value)
        ? value
        : throw new UsageException($"{source} is not UTF-8: the server would be told something else");

    private static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
