using System.Text;

namespace DbLock;

/// <summary>The name of a table, exactly as it was created: capitals, spaces, dots and quotes in it are its own. DbLock quotes it. A part
/// beyond 63 bytes is cut by the server, as in any SQL.</summary>
public sealed record TableName
{
    /// <summary>Initializes a new name without a schema: the server looks for it along its search_path.</summary>
    /// <param name="name">The name, taken whole: a dot is part of it.</param>
    /// <exception cref="ArgumentException">The name is empty or is none that a table can have.</exception>
    public TableName(string name)
        : this(null, name)
    {
    }

    /// <summary>Initializes a new name with its schema.</summary>
    /// <param name="schema">The schema; null leaves it to the server's search_path.</param>
    /// <param name="name">The name, taken whole: a dot is part of it.</param>
    /// <exception cref="ArgumentException">A part is empty or is none that a table or schema can have.</exception>
    public TableName(string? schema, string name)
    {
        Schema = schema is null ? null : Checked(schema, nameof(schema));
        Name = Checked(name, nameof(name));
    }

    /// <summary>Gets the schema; null leaves it to the server's search_path.</summary>
    public string? Schema { get; }

    /// <summary>Gets the name.</summary>
    public string Name { get; }

    /// <summary>
    /// Gets whether the table is meant without its partitions and the tables that inherit from it, as ONLY says; otherwise they are locked
    /// with it.
    /// </summary>
    public bool Only { get; init; }

    internal string Quoted => Schema is null ? Quote(Name) : $"{Quote(Schema)}.{Quote(Name)}";

    /// <summary>Makes a name from a text, as <see cref="Parse"/> does.</summary>
    /// <param name="text">The text.</param>
    public static implicit operator TableName(string text) => Parse(text);

    /// <summary>Makes a name from its parts, each taken whole.</summary>
    /// <param name="parts">The schema and the name.</param>
    public static implicit operator TableName((string? Schema, string Name) parts) => new(parts.Schema, parts.Name);

    /// <summary>
    /// Makes a name from a text such as <c>orders</c>, <c>sales.orders</c> or <c>sales."orders.2026"</c>. A part that has a dot or a double
    /// quote stands in double quotes, as in SQL. Unlike in SQL, nothing is folded to lower case: <c>Orders</c> is a table that was created
    /// as <c>"Orders"</c>.
    /// </summary>
    /// <param name="text">The text.</param>
    /// <exception cref="ArgumentException">The text is not one name or two with a dot between.</exception>
    public static TableName Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var parts = new List<string>();
        for (var position = 0; position <= text.Length; position++)
        {
            parts.Add(text.AsSpan(position) is ['"', ..] ? QuotedPart(text, ref position) : BarePart(text, ref position));
            if (position < text.Length && text[position] != '.')
            {
                throw Malformed(text, "something follows a closing quote");
            }
        }

        return parts switch
        {
            [var name] => new TableName(name),
            [var schema, var name] => new TableName(schema, name),
            _ => throw Malformed(text, "it has more than two parts, and a table of another database cannot be locked"),
        };
    }

    /// <summary>Returns the name as SQL has it, quoted.</summary>
    public override string ToString() => Only ? $"only {Quoted}" : Quoted;

    private static string BarePart(string text, ref int position)
    {
        var end = text.IndexOf('.', position);
        var part = text[position..(position = end < 0 ? text.Length : end)];
        return part.Contains('"', StringComparison.Ordinal)
            ? throw Malformed(text, "a part with a quote in it is not itself in quotes")
            : part;
    }

    private static string QuotedPart(string text, ref int position)
    {
        var part = new StringBuilder();
        while (true)
        {
            var end = text.IndexOf('"', position + 1);
            if (end < 0)
            {
                throw Malformed(text, "a quote is not closed");
            }

            part.Append(text, position + 1, end - position - 1);
            position = end + 1;
            if (position == text.Length || text[position] != '"')
            {
                return part.ToString();
            }

            part.Append('"');
        }
    }

    private static string Quote(string part) => $"\"{part.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    private static string Checked(string part, string parameter)
    {
        ArgumentNullException.ThrowIfNull(part, parameter);
        var reason = part.Length == 0 ? "is empty"
            : part.Contains('\0', StringComparison.Ordinal) ? "has a NUL character in it"
            : string.Concat(part.EnumerateRunes().Select(rune => rune.ToString())) != part ? "has half of a surrogate pair in it"
            : null;
        return reason is null ? part : throw new ArgumentException(
            $"The {parameter} of a table {reason}, and no table can be called so: give the name that it was created with.",
            parameter);
    }

    private static ArgumentException Malformed(string text, string reason) => new(
        $"'{text}' is not the name of a table, because {reason}: write name, schema.name or \"a.name\", or use new TableName(schema, "
        + "name), which takes each part whole.",
        nameof(text));
}
