using System.Text.RegularExpressions;

namespace DbLock.Cli;

/// <summary>The address of a database as a URL, as libpq reads it.</summary>
/// <remarks>https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS</remarks>
internal static partial class ConnectionUrl
{
    /// <summary>How an address is written, for messages.</summary>
    public const string HowToWrite = "write postgres://user@host:5432/database, with %xx for special characters, or "
        + "Host=…;Username=…;Database=…";

    public static bool Is(string text) => Url().IsMatch(text);

    /// <summary>Adds what a URL says.</summary>
    /// <returns>False when the text is no URL of PostgreSQL's.</returns>
    /// <exception cref="UsageException">Its parameters cannot be understood.</exception>
    public static bool TryAddTo(ConnectionWords words, string text)
    {
        if (Url().Match(text) is not { Success: true } url)
        {
            return false;
        }

        // libpq keeps an empty place in the list of ports for a host that names none.
        words.Set("host", string.Join(',', url.Groups["host"].Captures.Select(host => Decoded(host.Value.Trim('[', ']')))), "the URL");
        var ports = url.Groups["port"].Captures.Select(port => port.Value.TrimStart(':')).ToList();
        if (ports.Any(port => port.Length > 0))
        {
            words.Set("port", string.Join(',', ports), "the URL");
        }

        words.Set("user", Decoded(url.Groups["user"].Value), "the URL");
        words.Set("password", Decoded(url.Groups["password"].Value), "the URL");
        words.Set("dbname", Decoded(url.Groups["database"].Value), "the URL");
        foreach (var part in url.Groups["query"].Value.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var pair = part.Split('=', 2);
            var name = Decoded(pair[0]);
            if (name.Length == 0 || !name.All(c => char.IsAsciiLetterLower(c) || c == '_'))
            {
                // A password with a question mark that is not escaped looks like this, so the name is not quoted.
                throw Malformed();
            }

            words.Set(name, pair.Length > 1 ? Decoded(pair[1]) : "", $"the URL's {name}");
        }

        return true;
    }

    /// <summary>
    /// Returns the refusal of an address that is not understood. It does not quote the address, which may have a password in it.
    /// </summary>
    public static UsageException Malformed() => new($"the database is given in a way that is not understood: {HowToWrite}");

    private static string Decoded(string text) => Uri.UnescapeDataString(text);

    [GeneratedRegex(
        @"^(?i:postgres(ql)?)://((?<user>[^:@/?]*)(:(?<password>[^@/?]*))?@)?"
        + @"(?<host>\[[^\]]*\]|[^:,/?\[]*)(?<port>(:[0-9]*)?)(,(?<host>\[[^\]]*\]|[^:,/?\[]*)(?<port>(:[0-9]*)?))*"
        + @"(/(?<database>[^?]*))?(\?(?<query>.*))?$",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Url();
}
