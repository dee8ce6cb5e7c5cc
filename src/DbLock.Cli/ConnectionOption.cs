using System.CommandLine;
using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Npgsql;

namespace DbLock.Cli;

/// <summary>Where the database is: an option, DBLOCK_CONNECTION, or the PG* variables that psql reads. It is never shown.</summary>
internal static partial class ConnectionOption
{
    public static Option<string?> Create() => new("--connection", "-c")
    {
        Description = "The database: a postgres:// URL or an Npgsql connection string. Else $DBLOCK_CONNECTION, else PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, "
            + "PGSSLMODE and .pgpass, as for psql",
        HelpName = "url",
    };

    /// <summary>Opens a connection of its own session, which is ended with it.</summary>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public static async Task<NpgsqlConnection> OpenAsync(string connectionString, CancellationToken cancellationToken)
    {
        var connection = new NpgsqlConnection(connectionString);
        try
        {
            // Npgsql does not look at the token while a server that has taken the connection says nothing.
            await connection.OpenAsync(cancellationToken).WaitAsync(cancellationToken).ConfigureAwait(false);
            return connection;
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            if (e is NpgsqlException or SocketException or TimeoutException or ArgumentException or NotSupportedException)
            {
                var address = new NpgsqlConnectionStringBuilder(connectionString);
                throw new UnavailableException(string.Create(
                    CultureInfo.InvariantCulture, $"no connection to {address.Host}, port {address.Port}: {(e.InnerException is SocketException inner ? inner : e).Message}"));
            }

            throw;
        }
    }

    public static string Resolve(string? option) => Resolve(option, Environment.GetEnvironmentVariable);

    public static string Resolve(string? option, Func<string, string?> variable)
    {
        var given = option ?? NullIfEmpty(variable("DBLOCK_CONNECTION"));
        var builder = given is null ? [] : given.StartsWith("postgres", StringComparison.Ordinal) && Url().Match(given) is { Success: true } url ? FromUrl(url) : FromConnectionString(given);

        // Npgsql's own builder says that it contains every keyword that it knows.
        var said = new DbConnectionStringBuilder { ConnectionString = builder.ConnectionString };

        // Npgsql itself reads PGUSER, PGPASSWORD, PGPASSFILE, PGOPTIONS and those of the certificates.
        Default("Host", "PGHOST", "localhost");
        Default("Port", "PGPORT", null);
        Default("Database", "PGDATABASE", null);
        Default("SSL Mode", "PGSSLMODE", null);
        Default("Timeout", "PGCONNECT_TIMEOUT", null);
        Default("Application Name", "PGAPPNAME", "dblock");
        builder.Pooling = false;
        builder.Multiplexing = false;

        // psql's own "host=… password=…" would come out as the name of a host.
        if (builder.Host!.Any(c => char.IsWhiteSpace(c) || c == '='))
        {
            throw Malformed();
        }

        // Npgsql takes it for several hosts only; what a lock needs, a primary, is asked of the server anyway.
        if (!builder.Host!.Contains(',', StringComparison.Ordinal) && builder.TargetSessionAttributes is "any" or "primary" or "read-write" or "prefer-primary")
        {
            builder.TargetSessionAttributes = null;
        }

        return builder.ConnectionString;

        void Default(string keyword, string name, string? otherwise)
        {
            if (!said.ContainsKey(keyword) && (NullIfEmpty(variable(name)) ?? otherwise) is { } value)
            {
                Set(builder, keyword, value, name);
            }
        }
    }

    private static NpgsqlConnectionStringBuilder FromConnectionString(string text)
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(text);
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            // The message may quote what was given, a password too.
            throw Malformed();
        }
    }

    private static UsageException Malformed() => new(
        "the database is given in a way that is not understood: write postgres://user@host:5432/database, with %xx for special characters, or Host=…;Username=…;Database=…");

    // https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    private static NpgsqlConnectionStringBuilder FromUrl(Match url)
    {
        var builder = new NpgsqlConnectionStringBuilder();
        var hosts = url.Groups["host"].Captures.Zip(url.Groups["port"].Captures, (host, port) => (Host: Decoded(host.Value.Trim('[', ']')), Port: port.Value.TrimStart(':'))).ToList();
        if (hosts is [var (host, port)])
        {
            Set(builder, "Host", host, "the URL");
            Set(builder, "Port", port, "the URL");
        }
        else
        {
            Set(builder, "Host", string.Join(',', hosts.Select(one => one.Port.Length == 0 ? one.Host : $"{one.Host}:{one.Port}")), "the URL");
        }

        Set(builder, "Username", Decoded(url.Groups["user"].Value), "the URL");
        Set(builder, "Password", Decoded(url.Groups["password"].Value), "the URL");
        Set(builder, "Database", Decoded(url.Groups["database"].Value), "the URL");
        foreach (var part in url.Groups["query"].Value.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var pair = part.Split('=', 2);
            var name = Decoded(pair[0]);

            // libpq's own affairs.
            if (!name.StartsWith("keepalives", StringComparison.Ordinal) && name != "gssencmode")
            {
                Set(builder, Keyword(name), pair.Length > 1 ? Decoded(pair[1]) : "", $"the URL's {name}");
            }
        }

        return builder;
    }

    private static string Decoded(string text) => Uri.UnescapeDataString(text);

    [GeneratedRegex(
        @"^postgres(ql)?://((?<user>[^:@/?]*)(:(?<password>[^@/?]*))?@)?(?<host>\[[^\]]*\]|[^:,/?\[]*)(?<port>(:[0-9]*)?)(,(?<host>\[[^\]]*\]|[^:,/?\[]*)(?<port>(:[0-9]*)?))*(/(?<database>[^?]*))?(\?(?<query>.*))?$",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Url();

    private static string Keyword(string name) => name switch
    {
        "host" => "Host",
        "port" => "Port",
        "dbname" => "Database",
        "user" => "Username",
        "password" => "Password",
        "passfile" => "Passfile",
        "sslmode" => "SSL Mode",
        "sslcert" => "SSL Certificate",
        "sslkey" => "SSL Key",
        "sslrootcert" => "Root Certificate",
        "application_name" => "Application Name",
        "connect_timeout" => "Timeout",
        "options" => "Options",
        "target_session_attrs" => "Target Session Attributes",
        "client_encoding" => "Client Encoding",
        "channel_binding" => "Channel Binding",
        "sslnegotiation" => "SSL Negotiation",
        _ => throw new UsageException(string.Create(CultureInfo.InvariantCulture, $"the URL's parameter {name} is not known: use host, port, dbname, user, password, sslmode, application_name, connect_timeout, options or target_session_attrs")),
    };

    private static void Set(NpgsqlConnectionStringBuilder builder, string keyword, string value, string source)
    {
        if (value.Length == 0)
        {
            return;
        }

        try
        {
            builder[keyword] = keyword == "SSL Mode" ? value.Replace("-", "", StringComparison.Ordinal) : value;
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException or OverflowException)
        {
            throw new UsageException($"{source} has a value that makes no sense for {keyword}");
        }
    }

    private static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
