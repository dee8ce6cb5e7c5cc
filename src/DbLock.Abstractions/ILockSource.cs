using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>
/// Where locks come from: what an application depends on, whether a <see cref="LockPool"/> carries its locks or each has a connection of
/// its own (<see cref="DbDataSourceExtensions.CreateLockSource"/>).
/// </summary>
/// <remarks>
/// <para><b>Threads.</b> May be used from anywhere.</para>
/// <para>
/// An implementation that passes a call on to a <see cref="LockPool"/> does so before its first await, and is not an async method itself:
/// else the pool cannot see what is acquired around a wait, and finds no deadlock.
/// </para>
/// </remarks>
[SuppressMessage("Naming", "CA1716", Justification = "shared is DbLock's word everywhere; Visual Basic writes [shared].")]
public interface ILockSource
{
    /// <summary>Acquires a lock, waiting for it; throws when the timeout is over.</summary>
    /// <param name="key">The key; several (<see cref="LockKey.All"/>) are acquired all or none.</param>
    /// <param name="timeout">
    /// How long to wait, up to about 24 days; null and <see cref="Timeout.InfiniteTimeSpan"/> wait for ever, zero tries once.
    /// </param>
    /// <param name="shared">Whether others may hold it at the same time, if they too ask for it shared.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed.</returns>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout; the message says by whom.</exception>
    /// <exception cref="LockDeadlockException">The wait was ended to break a deadlock.</exception>
    /// <exception cref="LockException">
    /// The server's locks cannot be trusted here, or it could not be asked within the timeout, so that nobody knows whether the lock is
    /// held.
    /// </exception>
    /// <exception cref="NotSupportedException">The server has no such lock.</exception>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    ValueTask<IHeldLock> AcquireLockAsync(
        LockKey key, TimeSpan? timeout = null, bool shared = false, CancellationToken cancellationToken = default);

    /// <summary>Acquires a lock, or answers null when it is held elsewhere; tries once unless it is given a timeout.</summary>
    /// <param name="key">The key; several (<see cref="LockKey.All"/>) are acquired all or none.</param>
    /// <param name="timeout">How long to wait, up to about 24 days; zero (default) tries once.</param>
    /// <param name="shared">Whether others may hold it at the same time, if they too ask for it shared.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed; null when it was held elsewhere for the whole timeout.</returns>
    /// <inheritdoc cref="AcquireLockAsync" path="/exception[not(@cref='T:DbLock.LockNotAcquiredException')]"/>
    ValueTask<IHeldLock?> TryAcquireLockAsync(
        LockKey key, TimeSpan timeout = default, bool shared = false, CancellationToken cancellationToken = default);
}
