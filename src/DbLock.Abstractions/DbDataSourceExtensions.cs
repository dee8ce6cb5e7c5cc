using System.Data.Common;

namespace DbLock;

/// <summary>Locks from a data source: each on a connection of its own, while it is waited for and while it is held.</summary>
public static class DbDataSourceExtensions
{
    /// <summary>Makes a source of locks, each of which has a connection of its own. Nothing is sent to the server.</summary>
    /// <param name="dataSource">Where the connections come from, of any provider. It stays the caller's.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">
    /// How the locks are held; null are exclusive ones. The scope is the session's. With <see cref="LockOptions.Shared"/> all are shared.
    /// </param>
    /// <exception cref="ArgumentException">The options ask for transaction scope.</exception>
    public static ILockSource CreateLockSource(
        this DbDataSource dataSource, LockInterface? lockInterface = null, LockOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        HeldLock.CheckScope(options);
        return new DataSourceLocks(dataSource, lockInterface, options);
    }

    /// <summary>Acquires a lock, waiting for it; throws when the timeout is over.</summary>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait, as <see cref="Lock.Acquire(TimeSpan)"/>; null waits for ever.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <returns>The lock, held until it is disposed.</returns>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout; the message says by whom.</exception>
    /// <exception cref="ArgumentException">The options ask for transaction scope.</exception>
    public static HeldLock AcquireLock(
        this DbDataSource dataSource, LockKey key, TimeSpan? timeout = null, LockInterface? lockInterface = null,
        LockOptions? options = null) =>
        Synchronously.Completed(HeldLock.TryAcquire(
            dataSource, key, timeout ?? Timeout.InfiniteTimeSpan, lockInterface, options, orThrow: true, async: false,
            CancellationToken.None))!;

    /// <summary>Acquires a lock, waiting for it; throws when the timeout is over.</summary>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait, as <see cref="Lock.Acquire(TimeSpan)"/>; null waits for ever.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="AcquireLock(DbDataSource, LockKey, TimeSpan?, LockInterface?, LockOptions?)" path="/returns"/>
    /// <inheritdoc cref="AcquireLock(DbDataSource, LockKey, TimeSpan?, LockInterface?, LockOptions?)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public static ValueTask<HeldLock> AcquireLockAsync(
        this DbDataSource dataSource, LockKey key, TimeSpan? timeout = null, LockInterface? lockInterface = null,
        LockOptions? options = null, CancellationToken cancellationToken = default) =>
        HeldLock.TryAcquire(
            dataSource, key, timeout ?? Timeout.InfiniteTimeSpan, lockInterface, options, orThrow: true, async: true, cancellationToken)!;

    /// <summary>Acquires a lock, or answers null when it is held elsewhere; tries once unless it is given a timeout.</summary>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait; zero (default) tries once.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <returns>The lock, held until it is disposed; null when it was held elsewhere for the whole timeout.</returns>
    /// <exception cref="ArgumentException">The options ask for transaction scope.</exception>
    public static HeldLock? TryAcquireLock(
        this DbDataSource dataSource, LockKey key, TimeSpan timeout = default, LockInterface? lockInterface = null,
        LockOptions? options = null) =>
        Synchronously.Completed(
            HeldLock.TryAcquire(dataSource, key, timeout, lockInterface, options, orThrow: false, async: false, CancellationToken.None));

    /// <summary>Acquires a lock, or answers null when it is held elsewhere; tries once unless it is given a timeout.</summary>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">How long to wait; zero (default) tries once.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock. The scope is the session's.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="TryAcquireLock(DbDataSource, LockKey, TimeSpan, LockInterface?, LockOptions?)" path="/returns"/>
    /// <inheritdoc cref="TryAcquireLock(DbDataSource, LockKey, TimeSpan, LockInterface?, LockOptions?)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public static ValueTask<HeldLock?> TryAcquireLockAsync(
        this DbDataSource dataSource, LockKey key, TimeSpan timeout = default, LockInterface? lockInterface = null,
        LockOptions? options = null, CancellationToken cancellationToken = default) =>
        HeldLock.TryAcquire(dataSource, key, timeout, lockInterface, options, orThrow: false, async: true, cancellationToken);
}
