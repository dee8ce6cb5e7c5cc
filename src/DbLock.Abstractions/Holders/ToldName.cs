using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace DbLock;

/// <summary>
/// Writes the name of a lock where people see it at the server, and reads it back: in a comment before a statement, and in the
/// application_name of a session that only locks use.
/// </summary>
/// <remarks>
/// A name may be any text. Characters that could mean something to a server, a provider or a terminal are written as % and two digits for
/// each byte of their UTF-8, so that everything is ASCII. Several keys have commas between them, and what is too long ends with two dots.
/// </remarks>
internal static partial class ToldName
{
    /// <summary>The end of the application_name of a session that carries the locks of a <see cref="LockPool"/>.</summary>
    private const string OfPool = " [pool of locks]";

    /// <summary>The text that stands in place of the time of the grant until that is told.</summary>
    public const string AskedFor = " asked for]";

    /// <summary>
    /// A regular expression, of PostgreSQL's and of .NET's, for what is added to an application_name: <c> [nightly-report asked for]</c>,
    /// <c> [nightly-report 2026-11-26T18:03:22Z]</c>.
    /// </summary>
    public const string Added = @" (\[pool of locks\]|\[[^][]* (asked for|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\])$";

    // The server keeps NAMEDATALEN - 1 bytes: https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME
    private const int MostOfApplication = 63;
    private const int LeastOfApplication = 12;
    private const int MostInComment = 200;
    private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss'Z'";
    private const string Cut = "..";

    private static readonly SearchValues<char> InComment =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/ ");
    private static readonly SearchValues<char> InApplication =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/ :;@#=+*!?&()<>|~^$");

    private static readonly KeyScheme[] Schemes = Enum.GetValues<KeyScheme>();

    /// <summary>Returns the comment that stands before a statement, with a space after it.</summary>
    public static string Comment(LockKey key) => $"/* dblock {Written(key, InComment, MostInComment)} */ ";

    /// <summary>Returns a comment with another text, which nothing reads back.</summary>
    public static string Comment(string text) => $"/* {Written([text], InComment, MostInComment)} */ ";

    /// <summary>
    /// Returns the end of an application_name that shows a lock which is asked for, and how many bytes are left for what stands before it.
    /// </summary>
    public static (string End, int Room) InApplicationName(LockKey key)
    {
        const int Around = 4 + 20;
        var name = Written(key, InApplication, MostOfApplication - LeastOfApplication - Around);
        return ($" [{name}{AskedFor}", MostOfApplication - Around - name.Length);
    }

    /// <summary>
    /// Returns the end of the application_name of a pool's session, and how many bytes are left for what stands before it.
    /// </summary>
    public static (string End, int Room) InApplicationNameOfPool() => (OfPool, MostOfApplication - OfPool.Length);

    /// <summary>Returns the application_name of this process for sessions that have none: its host and number.</summary>
    public static string Process() => Written(
        [$"{Environment.MachineName}:{Environment.ProcessId.ToString(CultureInfo.InvariantCulture)}"], InApplication, MostOfApplication);

    /// <summary>Splits an application_name into what the application gave and what was added to it.</summary>
    public static (string? Application, string? Told) Split(string? name)
    {
        var added = name is null ? null : AddedPattern().Match(name);
        return added?.Success == true ? (added.Index == 0 ? null : name![..added.Index], added.Value[1..]) : (name, null);
    }

    /// <summary>Says whether what was added to an application_name is that of a pool.</summary>
    public static bool IsOfPool(string? told) => told == OfPool[1..];

    /// <summary>Reads what was added to an application_name: the lock's name, as it is written there, and the time of the grant.</summary>
    public static (string? Written, DateTimeOffset? Since) Read(string? told)
    {
        if (told is null || IsOfPool(told))
        {
            return default;
        }

        if (told.EndsWith(AskedFor, StringComparison.Ordinal))
        {
            return (told[1..^AskedFor.Length], null);
        }

        var space = told.LastIndexOf(' ');
        return DateTimeOffset.TryParseExact(
            told.AsSpan((space + 1)..^1), TimeFormat, CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var since)
            ? (told[1..space], since)
            : default;
    }

    /// <summary>Reads the comment before a statement: the lock's name as it is written there; null when there is none.</summary>
    public static string? ReadComment(string? query) =>
        query is not null && CommentPattern().Match(query).Groups[1] is { Success: true, Length: <= MostInComment } name
            ? name.Value
            : null;

    /// <summary>Returns the name as people read it. Names of several keys have ", " between them.</summary>
    public static string InWords(string written) => string.Join(", ", Names(written));

    /// <summary>
    /// Says whether a written name may be that of a key: it is the key's own name, or the beginning of it where the written one was cut, or
    /// another scheme makes the key's number of it. What a session tells about a lock is believed only then.
    /// </summary>
    public static bool Fits(string written, LockKey key) => key.Keys.Any(one =>
        IsOfNumber(written, one) || Names(written).Contains(one.Name)
        || (IsCut(written) && one.Name.StartsWith(Names(written).Last()[..^Cut.Length], StringComparison.Ordinal)));

    /// <summary>Returns the keys that a written name can stand for, one for each scheme.</summary>
    public static IEnumerable<LockKey> KeysOf(string written) => Names(written).SelectMany(name => Schemes, LockKey.From);

    /// <summary>Says whether a written name was cut.</summary>
    public static bool IsCut(string written) => written.EndsWith(Cut, StringComparison.Ordinal);

    // Says whether some scheme makes a key's number of a written name. Such a name is proved by the number, which is a hash of it.
    private static bool IsOfNumber(string written, LockKey key) =>
        KeysOf(written).Any(one => (one.Number, one.IsPair) == (key.Number, key.IsPair));

    private static IEnumerable<string> Names(string written) => written.Split(',').Select(Name);

    private static string Written(LockKey key, SearchValues<char> plain, int most) =>
        !key.IsSeveral && key.Name.Length <= most && !key.Name.AsSpan().ContainsAnyExcept(plain)
            ? key.Name
            : Written(key.Keys.Select(one => one.Name), plain, most);

    private static string Written(IEnumerable<string> names, SearchValues<char> plain, int most)
    {
        var (text, fits) = (new StringBuilder(), 0);
        Span<byte> bytes = stackalloc byte[4];
        foreach (var name in names)
        {
            text.Append(text.Length > 0 ? "," : "");
            foreach (var rune in name.EnumerateRunes())
            {
                if (rune.IsAscii && plain.Contains((char)rune.Value))
                {
                    text.Append((char)rune.Value);
                }
                else
                {
                    foreach (var one in bytes[..rune.EncodeToUtf8(bytes)])
                    {
                        text.Append(CultureInfo.InvariantCulture, $"%{one:X2}");
                    }
                }

                if (text.Length > most)
                {
                    text.Length = fits;
                    return text.Append(Cut).ToString();
                }

                fits = text.Length <= most - Cut.Length ? text.Length : fits;
            }
        }

        return text.ToString();
    }

    private static string Name(string written)
    {
        if (!written.Contains('%', StringComparison.Ordinal))
        {
            return written;
        }

        // The name comes from another session, which may have written anything.
        var bytes = new List<byte>(written.Length);
        for (var i = 0; i < written.Length; i++)
        {
            if (written[i] == '%' && i + 2 < written.Length
                && byte.TryParse(written.AsSpan(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value))
            {
                bytes.Add(value);
                i += 2;
            }
            else
            {
                bytes.AddRange(Encoding.UTF8.GetBytes(written[i].ToString()));
            }
        }

        return Encoding.UTF8.GetString([.. bytes]);
    }

    [GeneratedRegex(Added, RegexOptions.CultureInvariant)]
    private static partial Regex AddedPattern();

    // ODBC sends all commands as one text, and psqlODBC puts commands of its own before them.
    [GeneratedRegex(@"^(?:(?:BEGIN|SAVEPOINT \w+); ?)*/\* dblock ([^*]*) \*/", RegexOptions.CultureInvariant | RegexOptions.IgnoreCase)]
    private static partial Regex CommentPattern();
}
