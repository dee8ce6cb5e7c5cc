using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Spectre.Console;

namespace DbLock.Cli;

/// <summary>Rows of values under stable column names, for people and for programs.</summary>
internal static class Output
{
    public const string Table = "table";

    /// <summary>The styles of a text on a terminal.</summary>
    public const string Bold = "1";

    public const string Dim = "2";

    public const string Red = "31";

    private const string Json = "json";
    private const string Csv = "csv";

    public static Option<string> Option()
    {
        var option = new Option<string>("--output", "-o")
        {
            Description = "table, json (an array of objects) or csv (RFC 4180)",
            HelpName = "format",
            DefaultValueFactory = _ => Table,
        };
        return option.AcceptOnlyFromAmong(Table, Json, Csv);
    }

    /// <summary>Gets whether people read it: colours and boxes are for terminals only.</summary>
    public static bool IsTerminal => !Console.IsOutputRedirected;

    public static bool IsTable(string format) => format == Table;

    public static bool IsJson(string format) => format == Json;

    public static Option<bool> WideOption() => new("--wide", "-w")
    {
        Description = "All columns, and nothing cut off, however wide the terminal is",
    };

    /// <summary>Writes rows in a format.</summary>
    /// <param name="format">One of the three.</param>
    /// <param name="columns">The names of the columns.</param>
    /// <param name="rows">A value for each column: text, number, truth or null.</param>
    /// <param name="important">
    /// For a terminal the columns from the most important on, of which as many are shown as fit; null for all.
    /// </param>
    public static void Write(
        string format, IReadOnlyList<string> columns, IReadOnlyList<object?[]> rows, IReadOnlyList<string>? important = null)
    {
        switch (format)
        {
            case Json:
                WriteJson(columns, rows);
                break;
            case Csv:
                var csv = new StringBuilder().AppendJoin(',', columns).Append("\r\n");
                foreach (var row in rows)
                {
                    // A program gets a text as it is; for a terminal it is cleaned of what the terminal would obey.
                    csv.AppendJoin(',', row.Select(value => Quote(IsTerminal ? Clean(Text(value)) : Text(value)))).Append("\r\n");
                }

                Console.Out.Write(csv);
                break;
            default:
                WriteLines(Lines(columns, rows, IsTerminal ? important : null));
                break;
        }
    }

    /// <summary>Returns a table as lines: a header and a line for each row.</summary>
    /// <param name="columns">The names of the columns.</param>
    /// <param name="rows">A value for each column.</param>
    /// <param name="important">
    /// The columns from the most important on, of which as many are shown as fit the terminal; null for all, uncut.
    /// </param>
    public static List<string> Lines(IReadOnlyList<string> columns, IReadOnlyList<object?[]> rows, IReadOnlyList<string>? important)
    {
        var cells = rows.Select(row => row.Select(value => OneLine(Text(value))).ToArray()).ToList();
        var widths = columns.Select((name, i) => cells.Select(row => row[i].GetCellWidth()).Append(name.Length).Max()).ToArray();
        var shown = Enumerable.Range(0, columns.Count).ToList();
        if (important is not null)
        {
            shown = Fit(columns, widths, important);
        }

        List<string> lines = [Styled(Bold, Line([.. columns], null))];
        lines.AddRange(cells.Select((row, i) => Line(row, rows[i])));
        if (shown.Count < columns.Count)
        {
            lines.Add(Styled(Dim, Cut($"Not shown: {string.Join(", ", columns.Where((_, i) => !shown.Contains(i)))} (--wide)", Width)));
        }

        return lines;

        string Line(string[] texts, object?[]? values) => string.Join("  ", shown.Select(i =>
        {
            var cell = Cut(texts[i], widths[i]);
            var padding = i == shown[^1] ? "" : new string(' ', widths[i] - cell.GetCellWidth());
            return (values?[i] is false ? Styled(Red, cell) : cell) + padding;
        })).TrimEnd();
    }

    /// <summary>Writes lines of which nothing commands the terminal.</summary>
    public static void WriteLines(IEnumerable<string> lines) => Console.Out.Write(string.Concat(lines.Select(line => line + '\n')));

    /// <summary>Gets how many cells a line of the terminal has.</summary>
    public static int Width => Size("COLUMNS", () => Console.WindowWidth, 80);

    /// <summary>Gets how many lines the terminal has.</summary>
    public static int Height => Size("LINES", () => Console.WindowHeight, 24);

    /// <summary>Returns as much of a text as fits into so many cells.</summary>
    public static string Cut(string text, int width)
    {
        if (text.GetCellWidth() <= width)
        {
            return text;
        }

        var (kept, cells) = (new StringBuilder(), 0);
        foreach (var rune in text.EnumerateRunes())
        {
            cells += rune.ToString().GetCellWidth();
            if (cells > width - 1)
            {
                break;
            }

            kept.Append(rune);
        }

        return kept.Append('…').ToString();
    }

    /// <summary>Returns a text in a style, where colours are shown.</summary>
    public static string Styled(string style, string text) =>
        IsTerminal
            && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"))
            && Environment.GetEnvironmentVariable("TERM") != "dumb"
            ? $"\u001b[{style}m{text}\u001b[0m"
            : text;

    /// <summary>Returns a text in lines of so many cells, broken between words, the second and later ones indented.</summary>
    public static IEnumerable<string> Wrap(string text, int width, int indent)
    {
        string? line = null;
        foreach (var word in text.Split(' '))
        {
            if (!string.IsNullOrWhiteSpace(line) && line.GetCellWidth() + 1 + word.GetCellWidth() > width)
            {
                yield return line.TrimEnd();
                line = new string(' ', indent) + word;
            }
            else
            {
                line = line is null ? word : $"{line} {word}";
            }
        }

        yield return line!;
    }

    // Returns the columns that fit, taken from the most important on, and sets their widths. The room that is left goes to columns that
    // were cut, and to the query last.
    private static List<int> Fit(IReadOnlyList<string> columns, int[] widths, IReadOnlyList<string> important)
    {
        const int Gap = 2;
        var (wanted, shown, left) = (widths.ToArray(), new List<int>(), Width);
        foreach (var column in important.Select(name => columns.TakeWhile(other => other != name).Count()))
        {
            var least = Math.Min(wanted[column], columns[column] switch
            {
                "query" or "reason" or "waiters" => 12,
                "object" or "application" or "user" or "database" => 16,
                _ => int.MaxValue,
            });
            var cost = least + (shown.Count == 0 ? 0 : Gap);
            if (shown.Count == 0 || cost <= left)
            {
                (left, widths[column]) = (left - cost, least);
                shown.Add(column);
            }
        }

        foreach (var column in shown.OrderBy(column => columns[column] == "query"))
        {
            var more = Math.Clamp(wanted[column] - widths[column], 0, Math.Max(0, left));
            (left, widths[column]) = (left - more, widths[column] + more);
        }

        shown.Sort();
        return shown;
    }

    private static int Size(string variable, Func<int> ask, int otherwise)
    {
        var set = Environment.GetEnvironmentVariable(variable);
        if (int.TryParse(set, NumberStyles.None, CultureInfo.InvariantCulture, out var said) && said > 0)
        {
            return said;
        }

        try
        {
            return ask() is var size and > 0 ? size : otherwise;
        }
        catch (Exception e) when (e is IOException or PlatformNotSupportedException)
        {
            return otherwise;
        }
    }

    /// <summary>Writes one value of JSON.</summary>
    public static void WriteJson(Action<Utf8JsonWriter> write)
    {
        using var buffer = new MemoryStream();
        var readable = new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var json = new Utf8JsonWriter(buffer, readable))
        {
            write(json);
        }

        // The encoder escapes control characters, but not those that turn the writing direction. They can be in texts alone, where the
        // escape says the same.
        var runes = Encoding.UTF8.GetString(buffer.ToArray()).EnumerateRunes();
        var text = string.Concat(runes.Select(rune => IsCommand(rune) && rune.Value != '\n' ? Escaped(rune) : rune.ToString()));
        Console.Out.Write(text + '\n');
    }

    public static void WriteValue(Utf8JsonWriter json, string name, object? value)
    {
        json.WritePropertyName(name);
        switch (value)
        {
            case null:
                json.WriteNullValue();
                break;
            case bool truth:
                json.WriteBooleanValue(truth);
                break;
            case int or long or uint or short:
                json.WriteNumberValue(Convert.ToInt64(value, CultureInfo.InvariantCulture));
                break;
            case double number:
                json.WriteNumberValue(number);
                break;
            default:
                json.WriteStringValue(Text(value));
                break;
        }
    }

    private static void WriteJson(IReadOnlyList<string> columns, IReadOnlyList<object?[]> rows) => WriteJson(json =>
    {
        json.WriteStartArray();
        foreach (var row in rows)
        {
            json.WriteStartObject();
            for (var i = 0; i < columns.Count; i++)
            {
                WriteValue(json, columns[i], row[i]);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    private static string Text(object? value) => value switch
    {
        null => "",
        bool truth => truth ? "true" : "false",
        double number => number.ToString("0.0##", CultureInfo.InvariantCulture),
        IFormattable formattable => formattable.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };

    /// <summary>Returns a text without what would command a terminal; a query or a name may be anybody's.</summary>
    public static string Clean(string text) => text.AsSpan().ContainsAnyExceptInRange(' ', '~')
        ? string.Concat(text.EnumerateRunes().Select(rune => rune.Value != '\n' && IsCommand(rune) ? "\uFFFD" : rune.ToString()))
        : text;

    // Format characters can turn the writing direction, and so hide what is there.
    private static bool IsCommand(Rune rune) => Rune.IsControl(rune) || Rune.GetUnicodeCategory(rune) == UnicodeCategory.Format;

    /// <summary>Returns a text in one line, without what would command a terminal.</summary>
    public static string OneLine(string text) => Clean(string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)));

    private static string Escaped(Rune rune) =>
        string.Concat(rune.ToString().Select(unit => string.Create(CultureInfo.InvariantCulture, $"\\u{(int)unit:X4}")));

    private static string Quote(string text) =>
        text.AsSpan().ContainsAny(",\"\r\n") ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;
}
