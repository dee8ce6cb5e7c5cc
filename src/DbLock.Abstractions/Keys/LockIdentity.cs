namespace DbLock;

/// <summary>
/// What the server knows a lock by: one name, or several for several keys, in one database where locks belong to that.
/// </summary>
internal sealed class LockIdentity
{
    public LockIdentity(LockDialect dialect, LockKey key, string? database)
    {
        (Dialect, Database) = (dialect, database);
        Names = key.IsSeveral
            ? [.. key.Keys.Select(one => new Name(dialect, dialect.Identify(one), database)).Distinct()]
            : [new Name(dialect, dialect.Identify(key), database)];
    }

    public LockDialect Dialect { get; }

    /// <summary>
    /// Gets the database that the lock belongs to; null where locks belong to the server, or a connection to one database.
    /// </summary>
    public string? Database { get; }

    public Name[] Names { get; }

    /// <summary>Says whether it is the same lock: the same names, each and no other.</summary>
    public bool IsSameAs(LockIdentity other) => Names.AsSpan().SequenceEqual(other.Names);

    /// <summary>One name, which knows its hash code: it is looked up in every acquire.</summary>
    public sealed class Name(LockDialect dialect, string text, string? database) : IEquatable<Name>
    {
        private readonly int _hash = HashCode.Combine(dialect, text, database);
        private readonly LockDialect _dialect = dialect;
        private readonly string _text = text;
        private readonly string? _database = database;

        public bool Equals(Name? other) =>
            ReferenceEquals(this, other)
            || (other is not null && _hash == other._hash && _dialect == other._dialect && _text == other._text
                && _database == other._database);

        public override bool Equals(object? obj) => Equals(obj as Name);

        public override int GetHashCode() => _hash;
    }
}
