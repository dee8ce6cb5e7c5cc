namespace DbLock;

/// <summary>What the server tells a lock from others by: several names for several keys.</summary>
internal sealed class LockIdentity
{
    public LockIdentity(LockDialect dialect, LockKey key)
    {
        Dialect = dialect;
        Names = [.. key.Keys.Select(dialect.Identify).Distinct()];
    }

    public LockDialect Dialect { get; }

    public string[] Names { get; }

    /// <summary>Says whether it is the same lock: the same names, each and no other.</summary>
    public bool IsSameAs(LockIdentity other) => Dialect == other.Dialect && Names.AsSpan().SequenceEqual(other.Names);
}
