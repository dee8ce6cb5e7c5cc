using Microsoft.EntityFrameworkCore.Infrastructure;

namespace DbLock;

/// <summary>Locks from <c>context.Database</c>, on every database that DbLock knows.</summary>
public static class DbLockDatabaseExtensions
{
    /// <summary>
    /// Makes a lock on the context's connection, in its transaction where it is in one. Nothing is sent to the server.
    /// </summary>
    /// <param name="database">The context's database.</param>
    /// <param name="key">The key.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    /// <exception cref="LockException">No driver was found for the connection.</exception>
    public static DbContextLock CreateLock(
        this DatabaseFacade database, LockKey key, LockInterface? lockInterface = null, LockOptions? options = null) =>
        new(database, key, lockInterface, options);

    /// <summary>
    /// Acquires a lock on a connection of its own, which is like the context's; waits for it, and throws when the timeout is over.
    /// </summary>
    /// <param name="database">
    /// The context's database. The context's own connection, transaction and retries have nothing to do with it.
    /// </param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait, as <see cref="Lock.Acquire(TimeSpan)"/>; null waits for ever.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed.</returns>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout; the message says by whom.</exception>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public static ValueTask<HeldLock> AcquireLockAsync(
        this DatabaseFacade database, LockKey key, TimeSpan? timeout = null, LockInterface? lockInterface = null,
        LockOptions? options = null, CancellationToken cancellationToken = default) =>
        Source(database).AcquireLockAsync(key, timeout, lockInterface, options, cancellationToken);

    /// <summary>Acquires a lock on a connection of its own, or answers null when it is held elsewhere.</summary>
    /// <param name="database">The context's database.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait; zero (default) tries once.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed; null when it was held elsewhere for the whole timeout.</returns>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public static ValueTask<HeldLock?> TryAcquireLockAsync(
        this DatabaseFacade database, LockKey key, TimeSpan timeout = default, LockInterface? lockInterface = null,
        LockOptions? options = null, CancellationToken cancellationToken = default) =>
        Source(database).TryAcquireLockAsync(key, timeout, lockInterface, options, cancellationToken);

    /// <inheritdoc cref="AcquireLockAsync" path="/summary"/>
    /// <inheritdoc cref="AcquireLockAsync" path="/returns"/>
    /// <param name="database">The context's database.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait, as <see cref="Lock.Acquire(TimeSpan)"/>; null waits for ever.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout; the message says by whom.</exception>
    public static HeldLock AcquireLock(
        this DatabaseFacade database, LockKey key, TimeSpan? timeout = null, LockInterface? lockInterface = null,
        LockOptions? options = null) =>
        Source(database).AcquireLock(key, timeout, lockInterface, options);

    /// <inheritdoc cref="TryAcquireLockAsync" path="/summary"/>
    /// <inheritdoc cref="TryAcquireLockAsync" path="/returns"/>
    /// <param name="database">The context's database.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait; zero (default) tries once.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    public static HeldLock? TryAcquireLock(
        this DatabaseFacade database, LockKey key, TimeSpan timeout = default, LockInterface? lockInterface = null,
        LockOptions? options = null) =>
        Source(database).TryAcquireLock(key, timeout, lockInterface, options);

    /// <summary>Migrates the database as <c>MigrateAsync</c> does, by one instance of the application at a time.</summary>
    /// <param name="database">The context's database. If it does not exist it is created, as <c>MigrateAsync</c> does.</param>
    /// <param name="options">How long others wait, who is cleared, and so on; null lets others wait for ever.</param>
    /// <param name="cancellationToken">Ends the wait, and the migration.</param>
    /// <returns>
    /// True when the migration was run here, after others if they came first, in which case it had nothing left to do; false when another
    /// instance was at it for the whole of <see cref="MigrateUnderLockOptions.Timeout"/>.
    /// </returns>
    /// <remarks>
    /// The lock is held on a connection of its own, so that it outlasts the transactions of the migration; who waits holds no snapshot, for
    /// which <c>CREATE INDEX CONCURRENTLY</c> would wait. When the lock is lost the migration is cancelled.
    /// </remarks>
    /// <exception cref="LockLostException">The lock was lost; another instance may have migrated at the same time.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static Task<bool> MigrateUnderLockAsync(
        this DatabaseFacade database, MigrateUnderLockOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(database);
        return Migrating.Migrate(database, options ?? new MigrateUnderLockOptions(), cancellationToken);
    }

    private static ContextDataSource Source(DatabaseFacade database)
    {
        ArgumentNullException.ThrowIfNull(database);
        return new ContextDataSource(database);
    }
}
