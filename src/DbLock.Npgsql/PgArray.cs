using System.Globalization;

namespace DbLock;

/// <summary>Arrays as the texts that PostgreSQL reads: a slim data source can send no others.</summary>
/// <remarks><see href="https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO"/>.</remarks>
internal static class PgArray
{
    public static string Text<T>(IEnumerable<T> values) => $"{{{string.Join(',', values.Select(Element))}}}";

    private static string Element<T>(T value) => value switch
    {
        null => "null",
        true => "t",
        false => "f",
        string text => $"\"{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)}\"",
        DateTimeOffset time => $"\"{time.UtcDateTime.ToString("O", CultureInfo.InvariantCulture)}\"",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => throw new NotSupportedException($"No array of {value.GetType()} is sent."),
    };
}
