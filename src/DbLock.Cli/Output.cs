using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Spectre.Console;

namespace DbLock.Cli;

/// <summary>Rows of values under stable column names, for people and for programs.</summary>
internal static class Output
{
    public const string Table = "table";

    private const string Json = "json";
    private const string Csv = "csv";

    public static Option<string> Option()
    {
        var option = new Option<string>("--output", "-o") { Description = "table, json (an array of objects) or csv (RFC 4180)", HelpName = "format", DefaultValueFactory = _ => Table };
        return option.AcceptOnlyFromAmong(Table, Json, Csv);
    }

    /// <summary>Gets whether people read it: colours and boxes are for terminals only.</summary>
    public static bool IsTerminal => !Console.IsOutputRedirected;

    public static bool IsTable(string format) => format == Table;

    public static bool IsJson(string format) => format == Json;

    /// <summary>Writes rows in a format.</summary>
    /// <param name="format">One of the three.</param>
    /// <param name="columns">The names of the columns.</param>
    /// <param name="rows">A value for each column: text, number, truth or null.</param>
    public static void Write(string format, IReadOnlyList<string> columns, IReadOnlyList<object?[]> rows)
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
                    csv.AppendJoin(',', row.Select(value => Quote(Text(value)))).Append("\r\n");
                }

                Console.Out.Write(csv);
                break;
            case var _ when IsTerminal:
                AnsiConsole.Write(ToTable(columns, rows));
                break;
            default:
                WritePlain(columns, rows);
                break;
        }
    }

    public static Spectre.Console.Table ToTable(IReadOnlyList<string> columns, IReadOnlyList<object?[]> rows)
    {
        var table = new Spectre.Console.Table().Border(TableBorder.Rounded);
        foreach (var column in columns)
        {
            table.AddColumn(new TableColumn($"[bold]{Markup.Escape(column)}[/]"));
        }

        foreach (var row in rows)
        {
            table.AddRow([.. row.Select(value => new Text(Short(OneLine(Text(value))), value is false ? new Style(Color.Red) : Style.Plain))]);
        }

        return table;
    }

    /// <summary>Writes one value of JSON.</summary>
    public static void WriteJson(Action<Utf8JsonWriter> write)
    {
        using var stream = Console.OpenStandardOutput();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            write(json);
        }

        stream.WriteByte((byte)'\n');
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

    private static void WritePlain(IReadOnlyList<string> columns, IReadOnlyList<object?[]> rows)
    {
        var lines = rows.Select(row => row.Select(value => OneLine(Text(value))).ToArray()).Prepend([.. columns]).ToList();
        var widths = columns.Select((_, i) => lines.Max(line => line[i].GetCellWidth())).ToArray();
        foreach (var line in lines)
        {
            Console.Out.WriteLine(string.Join("  ", line.Select((cell, i) => cell + new string(' ', widths[i] - cell.GetCellWidth()))).TrimEnd());
        }
    }

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
        ? string.Concat(text.Select(c => c != '\n' && (char.IsControl(c) || char.GetUnicodeCategory(c) == UnicodeCategory.Format) ? '\uFFFD' : c))
        : text;

    private static string OneLine(string text) => Clean(string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)));

    // What does not fit is in the other formats.
    private static string Short(string text) => text.Length <= 100 ? text : text[..99] + '…';

    private static string Quote(string text) => text.AsSpan().ContainsAny(",\"\r\n") ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;
}
