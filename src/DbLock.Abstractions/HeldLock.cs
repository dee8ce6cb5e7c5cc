using System.Data.Common;
using System.Diagnostics;
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
    private readonly DbConnection _connection;
    private readonly Lock _lock;
    private readonly OwnWatch _watch;
    private int _isEnded;

    private HeldLock(DbConnection connection, Lock @lock)
    {
        (_connection, _lock) = (connection, @lock);
        _watch = new OwnWatch(connection, @lock);
    }

    /// <summary>Lets go of a lock that nobody references any more and that was not disposed, and logs that.</summary>
    ~HeldLock()
    {
        if (Interlocked.Exchange(ref _isEnded, 1) == 0)
        {
            _watch.Abandon();
        }
    }

    /// <summary>Gets the key.</summary>
    public LockKey Key => _lock.Key;

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld => _watch.IsTrusted();

    /// <summary>
    /// Gets a token that fires when it is noticed that the server no longer holds the lock for us. A release does not fire it.
    /// </summary>
    public CancellationToken Lost => _lock.Lost;

    /// <inheritdoc cref="Lock.ThrowIfLost"/>
    public void ThrowIfLost()
    {
        _watch.IsTrusted();
        _lock.ThrowIfLost();
    }

    /// <inheritdoc cref="Lock.FencingToken"/>
    public long? FencingToken => _lock.FencingToken;

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
        return OpenAndAcquire(dataSource, key, timeout, lockInterface, options, orThrow, async, cancellationToken);
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
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<HeldLock?> OpenAndAcquire(
        DbDataSource dataSource, LockKey key, TimeSpan timeout, LockInterface? lockInterface, LockOptions? options, bool orThrow,
            bool async,
        CancellationToken cancellationToken)
    {
        var limit = Limit.Of(timeout, cancellationToken);
        for (var isSecond = false; ; isSecond = true)
        {
            var connection = await OwnConnection.Open(dataSource, key, limit, async).ConfigureAwait(false);
            var (held, @lock) = (default(HeldLock), default(Lock));
            var start = Stopwatch.GetTimestamp();
            try
            {
                @lock = new Lock(connection, key, lockInterface, options) { HasOwnConnection = true };
                var left = limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : timeout;
                if (!await Acquire(@lock, left, async, cancellationToken).ConfigureAwait(false))
                {
                    return orThrow ? throw await Running.NotAcquired(
                        @lock.Holding, timeout, "", "TryAcquireLock to go on without it", async).ConfigureAwait(false) : null;
                }

                return held = new HeldLock(connection, @lock);
            }
            catch (Exception) when (!isSecond && @lock?.Holding.Conversation.IsSessionDead == true
                && Stopwatch.GetElapsedTime(start) < TrustWindow.Beat)
            {
                // The pool has given out a session that had ended while it was idle. The next connection has a new one.
            }
            finally
            {
                if (held is null)
                {
                    await GiveBack(connection, @lock, limit, async).ConfigureAwait(false);
                }
            }
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<bool> Acquire(Lock @lock, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        if (!(async ? await @lock.AcquireAsync(timeout, cancellationToken).ConfigureAwait(false) : @lock.Acquire(timeout)))
        {
            return false;
        }

        return await LockWatch.ConfirmGrant(@lock, async).ConfigureAwait(false) ? true : throw Refusals.Lost(@lock.Key, null);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private static async ValueTask GiveBack(DbConnection connection, Lock? @lock, Limit limit, bool async)
    {
        if (@lock is { Holding: { IsLost: true, Conversation.IsAbandoned: false } })
        {
            // The session may hold the lock all the same, so the connection must not return to its pool.
            @lock.Interface.Driver.Discard(connection);
        }

        if (@lock is not null)
        {
            await Keeping.PutBack(@lock.Holding.Conversation, limit, async).ConfigureAwait(false);
        }

        // If the connection owes an answer, it is closed when that has come.
        if (@lock is not { Holding.Conversation.IsAbandoned: true })
        {
            await connection.Dispose(async).ConfigureAwait(false);
        }
    }

    private async ValueTask<bool> Release(bool async)
    {
        await End(async).ConfigureAwait(false);
        try
        {
            return async ? await _lock.ReleaseAsync().ConfigureAwait(false) : _lock.Release();
        }
        finally
        {
            await Dispose(async).ConfigureAwait(false);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask Dispose(bool async)
    {
        await End(async).ConfigureAwait(false);
        await _lock.Holding.Dispose(async).ConfigureAwait(false);
        await GiveBack(_connection, _lock, Limit.Of(TrustWindow.Length, CancellationToken.None), async).ConfigureAwait(false);
    }

    private ValueTask End(bool async)
    {
        if (Interlocked.Exchange(ref _isEnded, 1) != 0)
        {
            return default;
        }

        GC.SuppressFinalize(this);
        return _watch.End(async);
    }
}
