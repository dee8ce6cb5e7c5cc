namespace DbLock;

/// <summary>What the server knows a lock by: one name, or several for several keys.</summary>
internal sealed class LockIdentity
{
    public LockIdentity(LockDialect dialect, LockKey key)
    {
        Dialect = dialect;
        Names = key.IsSeveral
            ? [.. key.Keys.Select(one => new Name(dialect, dialect.Identify(one))).Distinct()]
            : [new Name(dialect, dialect.Identify(key))];
    }

    public LockDialect Dialect { get; }

    public Name[] Names { get; }

    /// <summary>Says whether it is the same lock: the same names, each and no other.</summary>
    public bool IsSameAs(LockIdentity other) => Names.AsSpan().SequenceEqual(other.Names);

    /// <summary>One name, which knows its hash code: it is looked up in every acquire.</summary>
    public sealed class Name(LockDialect dialect, string text) : IEquatable<Name>
    {
        private readonly int _hash = HashCode.Combine(dialect, text);
        private readonly LockDialect _dialect = dialect;
        private readonly string _text = text;

        public bool Equals(Name? other) =>
            ReferenceEquals(this, other)
            || (other is not null && _hash == other._hash && _dialect == other._dialect && _text == other._text);

        public override bool Equals(object? obj) => Equals(obj as Name);

        public override int GetHashCode() => _hash;
    }
}
