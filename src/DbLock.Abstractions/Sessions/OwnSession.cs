using System.Data.Common;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>A lock of session scope, on a connection of its own.</summary>
[SuppressMessage("Design", "CA1001", Justification = "The watch ends with the hold, or when HeldLock is finalized.")]
internal sealed class OwnSession : IOwnHold
{
    // Who waits for slots of which keys, so that one task of the process asks for all, first come, first served.
    private static readonly ConditionalWeakTable<DbDataSource, LeaseLine> Lines = [];

    private readonly DbConnection _connection;
    private readonly Lock _lock;
    private readonly OwnWatch _watch;
    private int _isEnded;

    private OwnSession(DbConnection connection, Lock @lock)
    {
        (_connection, _lock) = (connection, @lock);
        _watch = new OwnWatch(connection, @lock);
    }

    public LockKey Key => _lock.Key;

    public bool IsHeld => _watch.IsTrusted();

    public CancellationToken Lost => _lock.Lost;

    public long? FencingToken => _lock.FencingToken;

    public int? Slot => _lock.Slot;

    private LeaseLine? Line { get; init; }

    /// <summary>Acquires a lock on a connection from a data source.</summary>
    /// <returns>Null when the lock was held elsewhere for the whole timeout.</returns>
    public static ValueTask<IOwnHold?> TryAcquire(
        DbDataSource dataSource, LockKey key, TimeSpan timeout, LockInterface? lockInterface, LockOptions? options, bool orThrow,
        bool async, CancellationToken cancellationToken) => key.SlotCount == 0
            ? TryAcquire(dataSource, key, timeout, lockInterface, options, (orThrow, null, null), async, cancellationToken)
            : TryAcquireSlot(dataSource, key, timeout, lockInterface, options, orThrow, async, cancellationToken);

    private static async ValueTask<IOwnHold?> TryAcquireSlot(
        DbDataSource dataSource, LockKey key, TimeSpan timeout, LockInterface? lockInterface, LockOptions? options, bool orThrow,
        bool async, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var (line, limit) = (Lines.GetOrCreateValue(dataSource), Limit.Of(timeout, cancellationToken));
        if (timeout == TimeSpan.Zero)
        {
            return !orThrow && line.IsWaitedFor(key) ? null : await TryAcquire(
                dataSource, key, timeout, lockInterface, options, (orThrow, line, null), async, cancellationToken).ConfigureAwait(false);
        }

        var place = line.Enter(key);
        try
        {
            if (!place.IsFirst && !await place.WaitUntilFirst(limit, async).ConfigureAwait(false))
            {
                return !orThrow ? null : throw LockNotAcquiredException.Within(
                    timeout, key, "", "all slots are held, and other tasks of this process wait for one", null,
                    "TryAcquireLock to go on without it");
            }

            return await TryAcquire(
                dataSource, key, limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : timeout, lockInterface, options, (orThrow, line, place),
                async, cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(key, e, cancellationToken);
        }
        finally
        {
            line.Leave(place);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<IOwnHold?> TryAcquire(
        DbDataSource dataSource, LockKey key, TimeSpan timeout, LockInterface? lockInterface, LockOptions? options,
        (bool OrThrow, LeaseLine? Line, LeaseLine.Place? Place) how, bool async, CancellationToken cancellationToken)
    {
        var limit = Limit.Of(timeout, cancellationToken);
        for (var isSecond = false; ; isSecond = true)
        {
            var connection = await OwnConnection.Open(dataSource, key, limit, async).ConfigureAwait(false);
            var (held, @lock) = (default(OwnSession), default(Lock));
            var start = Stopwatch.GetTimestamp();
            try
            {
                @lock = new Lock(connection, key, lockInterface, options) { HasOwnConnection = true };
                (@lock.Holding as SlotHolding)?.Place = how.Place;
                var left = limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : timeout;
                if (!await Acquire(@lock, left, async, cancellationToken).ConfigureAwait(false))
                {
                    return how.OrThrow ? throw await Running.NotAcquired(
                        @lock.Holding, timeout, "", "TryAcquireLock to go on without it", async).ConfigureAwait(false) : null;
                }

                return held = new OwnSession(connection, @lock) { Line = how.Line };
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

    public void ThrowIfLost()
    {
        _watch.IsTrusted();
        _lock.ThrowIfLost();
    }

    public async ValueTask<bool> Release(bool async)
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
    public async ValueTask Dispose(bool async)
    {
        await End(async).ConfigureAwait(false);
        await _lock.Holding.Dispose(async).ConfigureAwait(false);
        await GiveBack(_connection, _lock, Limit.Of(TrustWindow.Length, CancellationToken.None), async).ConfigureAwait(false);
        Line?.Wake(Key);
    }

    private ValueTask End(bool async)
    {
        if (Interlocked.Exchange(ref _isEnded, 1) != 0)
        {
            return default;
        }

        return _watch.End(async);
    }

    public void Abandon()
    {
        if (Interlocked.Exchange(ref _isEnded, 1) == 0)
        {
            _watch.Abandon();
        }
    }
}
