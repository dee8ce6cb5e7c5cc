using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>A lock of a <see cref="LockPool"/> that is held, until it is disposed.</summary>
/// <remarks>
/// <para>
/// A lock that nobody has any more, and that was not disposed, is let go when the garbage collector finds it, and that is logged as an
/// error.
/// </para>
/// <para><b>Threads.</b> May be used from anywhere.</para>
/// </remarks>
public sealed class PooledLock : IHeldLock
{
    private readonly IPoolOwner _pool;
    private readonly PoolHold _hold;

    internal PooledLock(IPoolOwner pool, PoolHold hold) => (_pool, _hold) = (pool, hold);

    /// <summary>Lets go of a lock that nobody references any more and that was not disposed, and logs that.</summary>
    ~PooledLock() => _pool.Abandon(_hold);

    /// <summary>Gets the key.</summary>
    public LockKey Key => Slots?.Key ?? _hold.Key;

    /// <summary>Gets which slot is held, from 1 (<see cref="LockKey.Slots"/>); null for a key without slots.</summary>
    public int? Slot => Slots?.Slot;

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld
    {
        get
        {
            CheckTrust();
            return _hold.IsHeld;
        }
    }

    /// <summary>
    /// Gets a token that fires when it is noticed that the server no longer holds the lock for us, or when it has not answered for 15
    /// seconds; of a lease, when it could not be renewed in time. A release does not fire it.
    /// </summary>
    public CancellationToken Lost => _hold.Lost;

    /// <summary>
    /// Gets the fencing token, as <see cref="Lock.FencingToken"/>: a lease has one always, another lock with <see
    /// cref="LockPoolOptions.Fencing"/>; null without it.
    /// </summary>
    public long? FencingToken => _hold.Token == 0 ? null : _hold.Token;

    internal PoolHold Hold => _hold;

    internal void KeepPool() => _pool.IsKept = true;

    /// <summary>Gets or sets the key with slots that was asked for, and the slot; null for a key without slots.</summary>
    internal (LockKey Key, int Slot)? Slots { get; set; }

    /// <summary>
    /// Lets go of the lock: hands it to the next task that waits, or tells the server; and returns when the server has answered that it was
    /// held to the end.
    /// </summary>
    /// <returns>True when the lock was let go; false when that had been done before.</returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    [SuppressMessage("Usage", "CA1816", Justification = "The finalizer has nothing to do for what was let go.")]
    public ValueTask<bool> ReleaseAsync()
    {
        GC.SuppressFinalize(this);
        _hold.CheckTrust();
        return _pool.Release(_hold, orThrow: true);
    }

    /// <summary>
    /// Lets go of the lock if it is held. It does not throw when the server cannot be reached, and does not wait for the server when it
    /// hands the lock to another task: whether the lock was held to the end, only <see cref="ReleaseAsync"/> and <see cref="Lost"/> say.
    /// </summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask DisposeAsync()
    {
        _hold.CheckTrust();
        await _pool.Release(_hold, orThrow: false).ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    /// <inheritdoc cref="Lock.ThrowIfLost"/>
    public void ThrowIfLost()
    {
        CheckTrust();
        if (_hold.IsLost)
        {
            throw _hold.Loss();
        }
    }

    private void CheckTrust()
    {
        _pool.CheckTrust();
        _hold.CheckTrust();
    }
}
