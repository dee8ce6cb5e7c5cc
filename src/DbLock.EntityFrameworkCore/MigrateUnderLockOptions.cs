using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>How a database is migrated by one instance at a time.</summary>
public sealed record MigrateUnderLockOptions
{
    /// <summary>Gets the key; null (default) is <c>migrate:</c> and the full name of the context's type.</summary>
    public LockKey? Key { get; init; }

    /// <summary>
    /// Gets how long an instance waits while another migrates: null (default) waits for ever, zero goes on at once. After a wait the
    /// migrations that are still pending are run.
    /// </summary>
    public TimeSpan? Timeout { get; init; }

    /// <summary>
    /// Gets who is cleared when they hold what a statement of the migration waits for, as <c>context.Prioritize</c>; null (default) clears
    /// nobody. PostgreSQL alone.
    /// </summary>
    public PgPriorityOptions? Priority { get; init; }

    /// <summary>
    /// Gets how long each lock of the migration's statements may be waited for, as <c>context.LockTimeout</c>; null (default) leaves it as
    /// it is. PostgreSQL alone.
    /// </summary>
    public TimeSpan? LockTimeout { get; init; }

    /// <summary>Gets where the lock logs; null logs nothing. Make it with the category <see cref="Lock.LogCategory"/>.</summary>
    public ILogger? Logger { get; init; }
}
