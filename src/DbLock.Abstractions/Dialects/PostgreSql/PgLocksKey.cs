namespace DbLock;

/// <summary>A key as PostgreSQL shows it in <c>pg_locks</c>, where the two halves are unsigned.</summary>
/// <param name="ClassId">Column <c>classid</c>: the high 32 bits of a number, or the first of a pair.</param>
/// <param name="ObjId">Column <c>objid</c>: the low 32 bits of a number, or the second of a pair.</param>
/// <param name="ObjSubId">Column <c>objsubid</c>: 1 for a number, 2 for a pair. The two key spaces never meet.</param>
/// <remarks>Source: <see href="https://www.postgresql.org/docs/current/view-pg-locks.html"/>.</remarks>
public readonly record struct PgLocksKey(uint ClassId, uint ObjId, short ObjSubId);

/// <summary>Shows keys as PostgreSQL does.</summary>
public static class PgLocksKeyExtensions
{
    /// <summary>Returns the key as <c>pg_locks</c> shows it.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidOperationException">These are several keys.</exception>
    public static PgLocksKey ToPgLocks(this LockKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return new((uint)(key.Number >> 32), (uint)key.Number, key.IsPair ? (short)2 : (short)1);
    }
}
