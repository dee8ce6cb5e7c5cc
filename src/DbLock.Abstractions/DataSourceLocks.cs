using System.Data.Common;

namespace DbLock;

/// <summary>A source of locks, each of which has a connection of its own.</summary>
internal sealed class DataSourceLocks(DbDataSource dataSource, LockInterface? lockInterface, LockOptions? options) : ILockSource
{
    private readonly LockOptions? _shared = (options ?? LockOptions.Default) with { Shared = true };

    public async ValueTask<IHeldLock> AcquireLockAsync(
        LockKey key, TimeSpan? timeout = null, bool shared = false, CancellationToken cancellationToken = default) =>
        (await Acquire(key, timeout ?? Timeout.InfiniteTimeSpan, shared, orThrow: true, cancellationToken).ConfigureAwait(false))!;

    public async ValueTask<IHeldLock?> TryAcquireLockAsync(
        LockKey key, TimeSpan timeout = default, bool shared = false, CancellationToken cancellationToken = default) =>
        await Acquire(key, timeout, shared, orThrow: false, cancellationToken).ConfigureAwait(false);

    private ValueTask<HeldLock?> Acquire(LockKey key, TimeSpan timeout, bool shared, bool orThrow, CancellationToken cancellationToken) =>
        HeldLock.TryAcquire(
            dataSource, key, timeout, lockInterface, shared ? _shared : options, orThrow, async: true, cancellationToken);
}
