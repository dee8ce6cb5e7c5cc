using System.CommandLine;
using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;
using Npgsql;

namespace DbLock.Cli;

/// <summary>Where the database is: an option, DBLOCK_CONNECTION, or the PG* variables that psql reads. It is never shown.</summary>
internal static class ConnectionOption
{
    public static Option<string?> Create() => new("--connection", "-c")
    {
        Description = "The database: a postgres:// URL or an Npgsql connection string. Else $DBLOCK_CONNECTION, else PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, "
            + "PGSSLMODE, .pgpass and so on, as for psql",
        HelpName = "url",
    };

    /// <summary>Opens a connection of its own session, which is ended with it.</summary>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public static async Task<NpgsqlConnection> OpenAsync(string connectionString, CancellationToken cancellationToken)
    {
        var connection = new NpgsqlConnection(connectionString);
        try
        {
            await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
            return connection;
        }
        catch (Exception e)
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            if (e is NpgsqlException or SocketException or TimeoutException or ArgumentException)
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
        var builder = given is null ? [] : Uri(given) is { } url ? FromUrl(url) : FromConnectionString(given);

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
        return builder.ConnectionString;

        void Default(string keyword, string name, string? otherwise)
        {
            if (!said.ContainsKey(keyword) && (NullIfEmpty(variable(name)) ?? otherwise) is { } value)
            {
                Set(builder, keyword, value, name);
            }
        }
    }

    private static Uri? Uri(string given) =>
        given.StartsWith("postgres://", StringComparison.Ordinal) || given.StartsWith("postgresql://", StringComparison.Ordinal)
            ? System.Uri.TryCreate(given, UriKind.Absolute, out var url) ? url : throw new UsageException("the URL of the database is malformed: write postgres://user@host:5432/database, with %xx for special characters")
            : null;

    private static NpgsqlConnectionStringBuilder FromConnectionString(string text)
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(text);
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            // The message may quote what was given, a password too.
            throw new UsageException("the connection string is malformed: write Host=…;Username=…;Database=…, or a URL postgres://user@host:5432/database");
        }
    }

    // https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    private static NpgsqlConnectionStringBuilder FromUrl(Uri url)
    {
        var builder = new NpgsqlConnectionStringBuilder();
        if (url.Host.Length > 0)
        {
            builder.Host = System.Uri.UnescapeDataString(url.Host.Trim('[', ']'));
        }

        if (url.Port > 0)
        {
            builder.Port = url.Port;
        }

        var user = url.UserInfo.Split(':', 2);
        if (user[0].Length > 0)
        {
            builder.Username = System.Uri.UnescapeDataString(user[0]);
        }

        if (user.Length > 1)
        {
            builder.Password = System.Uri.UnescapeDataString(user[1]);
        }

        if (url.AbsolutePath.Length > 1)
        {
            builder.Database = System.Uri.UnescapeDataString(url.AbsolutePath[1..]);
        }

        foreach (var part in url.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var pair = part.Split('=', 2);
            var name = System.Uri.UnescapeDataString(pair[0]);
            Set(builder, Keyword(name), pair.Length > 1 ? System.Uri.UnescapeDataString(pair[1]) : "", $"the URL's {name}");
        }

        return builder;
    }

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
        _ => throw new UsageException(string.Create(CultureInfo.InvariantCulture, $"the URL's parameter {name} is not known: use host, port, dbname, user, password, sslmode, application_name, connect_timeout, options or target_session_attrs")),
    };

    private static void Set(NpgsqlConnectionStringBuilder builder, string keyword, string value, string source)
    {
        try
        {
            builder[keyword] = keyword is "SSL Mode" or "Target Session Attributes" ? value.Replace("-", "", StringComparison.Ordinal) : value;
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException or OverflowException)
        {
            throw new UsageException($"{source} has a value that makes no sense for {keyword}");
        }
    }

    private static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
