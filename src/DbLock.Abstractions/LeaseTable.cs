namespace DbLock;

/// <summary>The table in which leases are kept (<see cref="LockScope.Lease"/>): one for all programs that lock the same things.</summary>
public sealed record LeaseTable
{
    /// <summary>The table's name where none is given: <c>dblock_leases</c>.</summary>
    public const string DefaultName = "dblock_leases";

    /// <summary>Initializes a new instance.</summary>
    /// <param name="name">The name, without quotes.</param>
    /// <param name="schema">
    /// The schema (on MySQL and MariaDB the database), without quotes; null leaves it to the connection.
    /// </param>
    /// <exception cref="ArgumentException">A name is empty, has a NUL or a brace, or is longer than 63 characters.</exception>
    public LeaseTable(string name = DefaultName, string? schema = null)
    {
        (Name, Schema) = (Checked(name, nameof(name)), schema is null ? null : Checked(schema, nameof(schema)));

        static string Checked(string name, string parameter) =>
            name is { Length: > 0 and <= 63 } && name.AsSpan().IndexOfAny('\0', '{', '}') < 0 ? name : throw new ArgumentException(
                "The name of a table of leases, or of its schema, has from 1 to 63 characters, and no NUL and no brace.", parameter);
    }

    /// <summary>Gets the table that is used where none is named.</summary>
    public static LeaseTable Default { get; } = new();

    /// <summary>Gets the name, without quotes.</summary>
    public string Name { get; }

    /// <summary>Gets the schema, without quotes; null leaves it to the connection.</summary>
    public string? Schema { get; }

    /// <summary>Returns the name, with its schema before it.</summary>
    public override string ToString() => Schema is null ? Name : $"{Schema}.{Name}";

    /// <summary>Returns the name as it stands in SQL.</summary>
    /// <param name="open">What opens a quoted name.</param>
    /// <param name="close">What closes it, and is doubled inside.</param>
    internal string Quoted(char open, char close)
    {
        return Schema is null ? Quote(Name) : $"{Quote(Schema)}.{Quote(Name)}";

        string Quote(string name) =>
            $"{open}{name.Replace(close.ToString(), $"{close}{close}", StringComparison.Ordinal)}{close}";
    }
}
