using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>A lock that is held on a connection of its own, until it is disposed.</summary>
/// <remarks>
/// <para>
/// The connection is the lock's alone: it goes back to its data source when the lock is let go, and is destroyed when that cannot be
/// verified. A driver that hears the server (Npgsql's) hears of the end of the session, and the server is asked every three seconds whether
/// it still holds the lock for us; over any other driver it is asked twice a second. So a session that was killed is noticed within a
/// second, and a network that has gone silent, or a process that was paused, after 15 seconds without an answer. A lock that nobody has
/// any more, and that was not disposed, is let go with its session when the garbage collector finds it, and that is logged as an error.
/// </para>
/// <para>
/// <b>Threads.</b> As <see cref="Lock"/>: one call at a time; <see cref="Lost"/> and <see cref="IsHeld"/> may be read from anywhere.
/// </para>
/// </remarks>
[SuppressMessage("Usage", "CA1816", Justification = "The finalizer has nothing to do once the watch has ended.")]
public sealed class HeldLock : IHeldLock, IDisposable
{
    private readonly IOwnHold _hold;

    private HeldLock(IOwnHold hold) => _hold = hold;

    /// <summary>Lets go of a lock that nobody references any more and that was not disposed, and logs that.</summary>
    ~HeldLock() => _hold.Abandon();

    /// <summary>Gets the key.</summary>
    public LockKey Key => _hold.Key;

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld => _hold.IsHeld;

    /// <summary>
    /// Gets a token that fires when it is noticed that the server no longer holds the lock for us. A release does not fire it.
    /// </summary>
    public CancellationToken Lost => _hold.Lost;

    /// <inheritdoc cref="Lock.ThrowIfLost"/>
    public void ThrowIfLost() => _hold.ThrowIfLost();

    /// <summary>
    /// Gets the fencing token, which is larger than those of all holds of the lock before it: a lease has one always, a lock of session
    /// scope with <see cref="LockOptions.Fencing"/>; null without it.
    /// </summary>
    public long? FencingToken => _hold.FencingToken;

    /// <summary>Gets which slot is held, from 1 (<see cref="LockKey.Slots"/>); null for a key without slots.</summary>
    public int? Slot => _hold.Slot;

    /// <summary>Lets go of the lock and gives the connection back.</summary>
    /// <returns>True when the lock was let go; false when that had been done before.</returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    public bool Release() => Synchronously.Completed(Release(async: false));

    /// <inheritdoc cref="Release()"/>
    public ValueTask<bool> ReleaseAsync() => Release(async: true);

    /// <summary>
    /// Lets go of the lock if it is held, and gives the connection back. It does not throw when the server cannot be reached.
    /// </summary>
    public void Dispose() => Synchronously.Completed(Dispose(async: false));

    /// <inheritdoc cref="Dispose()"/>
    public ValueTask DisposeAsync() => Dispose(async: true);

    /// <summary>Acquires a lock on a connection from a data source.</summary>
    /// <returns>Null when the lock was held elsewhere for the whole timeout.</returns>
    internal static ValueTask<HeldLock?> TryAcquire(
        DbDataSource dataSource, LockKey key, TimeSpan timeout, LockInterface? lockInterface, LockOptions? options, bool orThrow,
            bool async, CancellationToken cancellationToken)
    {
        // Wrong arguments throw from the call itself, before there is a connection.
        ArgumentNullException.ThrowIfNull(dataSource);
        ArgumentNullException.ThrowIfNull(key);
        Admission.CheckTimeout(timeout, key, options?.Dialect?.MaxTimeout ?? TimeSpan.MaxValue, options?.Dialect);
        CheckScope(options);
        Admission.CheckSlots(key, options is { Shared: true } or { Reentrant: true }, nameof(options));
        return Hold(
            options is { Scope: LockScope.Lease }
                ? OwnLease.TryAcquire(dataSource, key, timeout, lockInterface, options, orThrow, async, cancellationToken)
                : OwnSession.TryAcquire(dataSource, key, timeout, lockInterface, options, orThrow, async, cancellationToken));
    }

    /// <summary>Refuses options that ask for transaction scope.</summary>
    internal static void CheckScope(LockOptions? options)
    {
        if (options?.Scope == LockScope.Transaction)
        {
            throw new ArgumentException(
                "A lock from a data source has a connection of its own and no transaction on it: leave LockOptions.Scope at Session, or "
                    + "make the lock on the connection of the transaction.",
                nameof(options));
        }

        if (options is not null)
        {
            Leasing.Check(options, nameof(options));
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<HeldLock?> Hold(ValueTask<IOwnHold?> acquire) =>
        await acquire.ConfigureAwait(false) is { } hold ? new HeldLock(hold) : null;

    private ValueTask<bool> Release(bool async)
    {
        GC.SuppressFinalize(this);
        return _hold.Release(async);
    }

    private ValueTask Dispose(bool async)
    {
        GC.SuppressFinalize(this);
        return _hold.Dispose(async);
    }
}

