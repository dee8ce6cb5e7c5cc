namespace DbLock;

/// <summary>
/// Which locks are meant. Every property that is set must match; a list matches when one of its members does, and an empty list matches
/// nothing.
/// </summary>
public sealed record PgLockFilter
{
    internal static readonly PgLockFilter All = new();

    /// <summary>Gets the backends' process ids; null for any.</summary>
    public IReadOnlyList<int>? Pids { get; init; }

    /// <summary>Gets the databases' names: of what is locked or, where that belongs to none, of the session. Null for any.</summary>
    public IReadOnlyList<string>? Databases { get; init; }

    /// <summary>
    /// Gets the relations (tables, indexes and so on) of the connection's own database; a name without a schema is meant in every schema.
    /// Null for any.
    /// </summary>
    public IReadOnlyList<TableName>? Relations { get; init; }

    /// <summary>
    /// Gets the keys of advisory locks, in <see cref="Databases"/> or, where that is null, in the connection's own database. Null for any
    /// lock.
    /// </summary>
    public IReadOnlyList<LockKey>? Keys { get; init; }

    /// <summary>Gets the kinds of locks, as <see cref="PgLock.LockType"/> shows them; null for any.</summary>
    public IReadOnlyList<string>? LockTypes { get; init; }

    /// <summary>Gets the modes; null for any.</summary>
    public IReadOnlyList<PgLockMode>? Modes { get; init; }

    /// <summary>Gets whether locks are meant that are held (true) or waited for (false); null for both.</summary>
    public bool? Granted { get; init; }

    /// <summary>Gets whether only locks are meant that are held and stand in the way of somebody who waits.</summary>
    public bool BlockingOnly { get; init; }

    /// <summary>Gets the sessions' application names; null for any.</summary>
    public IReadOnlyList<string>? Applications { get; init; }

    /// <summary>Gets the roles that logged in; null for any.</summary>
    public IReadOnlyList<string>? Users { get; init; }

    /// <summary>
    /// Gets what the sessions do, as <see cref="LockSession.State"/> shows it; null for any. A hidden session matches none.
    /// </summary>
    public IReadOnlyList<string>? States { get; init; }

    /// <summary>
    /// Gets how long the session's transaction has been open at least; null for any. A session without one, and a hidden one, do not match.
    /// </summary>
    public TimeSpan? MinTransactionAge { get; init; }

    /// <summary>
    /// Gets how long the session has been in its state at least, such as idle; null for any. A hidden session does not match.
    /// </summary>
    public TimeSpan? MinStateAge { get; init; }

    /// <summary>Gets how long the lock has been waited for at least; null for any. PostgreSQL 14 and later.</summary>
    public TimeSpan? MinWait { get; init; }
}
