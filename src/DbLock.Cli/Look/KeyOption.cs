using System.CommandLine;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>How the text of a key becomes a number: a library's scheme, or the number or pair itself.</summary>
internal static class KeyOption
{
    private const string Number = "number";
    private const string Pair = "pair";

    /// <summary>Gets the schemes by the names of the libraries.</summary>
    public static IReadOnlyList<(string Name, KeyScheme Scheme)> Schemes { get; } =
    [
        ("postgresql-lock", KeyScheme.PostgresqlLock),
        ("django-pglock", KeyScheme.DjangoPglock),
        ("django-pglocks-1", KeyScheme.DjangoPglocks1),
        ("django-pglocks-2", KeyScheme.DjangoPglocks2),
        ("distributedlock", KeyScheme.DistributedLock),
        ("with-advisory-lock", KeyScheme.WithAdvisoryLock),
        ("sqlx", KeyScheme.Sqlx),
        ("good-job", KeyScheme.GoodJob),
        ("pals", KeyScheme.Pals),
    ];

    private static string[] Names { get; } = [.. Schemes.Select(scheme => scheme.Name), Number, Pair];

    public static Option<string> Create()
    {
        var option = new Option<string>("--key-scheme")
        {
            Description = "How a key becomes the number that PostgreSQL locks: as a library does it "
                + $"({string.Join(", ", Names[..^2])}), or number (42) or pair (1,2) for keys that are numbers",
            HelpName = "scheme",
            DefaultValueFactory = _ => Names[0],
        };
        return option.AcceptOnlyFromAmong(Names);
    }

    /// <summary>Returns the key that a text is.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static LockKey Parse(string text, string scheme)
    {
        Check(text);
        switch (scheme)
        {
            case Number:
                return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
                    ? LockKey.From(number)
                    : throw new UsageException($"'{text}' is no number of 64 bits, as --key-scheme number takes it");
            case Pair:
                var parts = text.Split(',');
                return parts.Length == 2
                    && int.TryParse(parts[0].Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var first)
                    && int.TryParse(parts[1].Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var second)
                    ? LockKey.From(first, second)
                    : throw new UsageException($"'{text}' is no pair of numbers of 32 bits (1,2), as --key-scheme pair takes it");
            default:
                return LockKey.From(text, Schemes.Single(known => known.Name == scheme).Scheme);
        }
    }

    /// <summary>Refuses a text that is no name of a key.</summary>
    /// <exception cref="UsageException">It is empty, or not UTF-8.</exception>
    public static void Check(string text)
    {
        UsageException.ThrowIf(
            text.Length == 0,
            "the KEY is empty, as from a variable that is not set: name a key (in a shell, \"${JOB:?}\" refuses an empty JOB)");
        UsageException.ThrowIf(!Given.IsUtf8(text), "the KEY must be UTF-8: what is not would be another name");
    }
}
