namespace DbLock;

/// <summary>A lock that is held on a connection of a <see cref="LockPool"/>, until it is disposed.</summary>
/// <remarks><b>Threads.</b> May be used from anywhere.</remarks>
public sealed class PooledLock : IAsyncDisposable
{
    private readonly LockPool _pool;
    private LossSource _loss;

    internal PooledLock(LockPool pool, PoolRequest request, long fencingToken)
    {
        _pool = pool;
        Request = request;
        FencingToken = fencingToken == 0 ? null : fencingToken;
    }

    /// <summary>Gets the key.</summary>
    public LockKey Key => Request.Key;

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld
    {
        get
        {
            _pool.CheckTrust();
            return Request.State == PoolRequest.StateOf.Held;
        }
    }

    /// <summary>
    /// Gets a token that fires when it is noticed that the server no longer holds the lock for us, or when it has not answered for 15 seconds. A release does not fire it.
    /// </summary>
    public CancellationToken Lost => _loss.Token;

    /// <summary>
    /// Gets the fencing token, as <see cref="Lock.FencingToken"/>; null unless the pool's options have <see cref="LockOptions.Fencing"/>. Tasks that share a lock may share its token.
    /// </summary>
    public long? FencingToken { get; }

    internal PoolRequest Request { get; }

    internal bool IsLost => _loss.IsLost;

    /// <summary>Gets or sets how many of its keys the server has not been told of yet.</summary>
    internal int Unlocking { get; set; }

    /// <summary>Gets what ends when the server has been told of all.</summary>
    internal TaskCompletionSource? Released { get; set; }

    /// <summary>Gets when it was granted, on the clock of <see cref="System.Diagnostics.Stopwatch"/>; 0 when nobody listens.</summary>
    internal long Start { get; } = Telemetry.HearsHolds ? System.Diagnostics.Stopwatch.GetTimestamp() : 0;

    /// <summary>Lets go of the lock: hands it to the next task that waits, or tells the server; and returns when the server has answered that it was held to the end.</summary>
    /// <returns>True when the lock was let go; false when that had been done before.</returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    public ValueTask<bool> ReleaseAsync() => _pool.Release(this, orThrow: true);

    /// <summary>
    /// Lets go of the lock if it is held. It does not throw when the server cannot be reached, and does not wait for the server when it hands the lock to another task: whether the
    /// lock was held to the end, only <see cref="ReleaseAsync"/> and <see cref="Lost"/> say.
    /// </summary>
    public async ValueTask DisposeAsync() => await _pool.Release(this, orThrow: false).ConfigureAwait(false);

    /// <inheritdoc cref="Lock.ThrowIfLost"/>
    public void ThrowIfLost()
    {
        _pool.CheckTrust();
        if (IsLost)
        {
            throw LockPool.Loss(this);
        }
    }

    internal void Lose() => _loss.Lose();
}
