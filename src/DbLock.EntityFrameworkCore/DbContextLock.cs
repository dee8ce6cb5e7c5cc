using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A lock on the connection of a context: <see cref="Lock"/>, which knows the context's transaction.</summary>
/// <remarks>
/// <para>
/// While it is held, but for transaction scope, the context's connection is kept open. The transaction that the context is in,
/// <c>CurrentTransaction</c>, is the lock's at each call, so that nothing need be given to it.
/// </para>
/// <para>
/// An execution strategy that retries would go on over a new session, which has no lock: acquiring is refused outside of
/// <c>context.Database.CreateExecutionStrategy().ExecuteAsync(…)</c>.
/// </para>
/// <para><b>Threads.</b> A lock, like its context, is used by one call at a time; <see cref="Lost"/> and <see cref="IsHeld"/> may be read
/// from anywhere.</para>
/// <para><b>Cancellation.</b> As for <see cref="Lock"/>.</para>
/// </remarks>
public sealed class DbContextLock : IDisposable, IAsyncDisposable
{
    private readonly DatabaseFacade _database;
    private readonly KeptOpen _connection;
    private readonly Lock _lock;
    private readonly bool _rollbackOnError;

    internal DbContextLock(DatabaseFacade database, LockKey key, LockInterface? lockInterface, LockOptions? options)
    {
        ArgumentNullException.ThrowIfNull(database);
        (_database, _connection) = (database, new KeptOpen(database));
        _lock = new Lock(database.GetDbConnection(), key, lockInterface, options);
        _rollbackOnError = options?.RollbackOnError ?? true;
    }

    /// <summary>Gets the key.</summary>
    public LockKey Key => _lock.Key;

    /// <inheritdoc cref="Lock.IsHeld"/>
    public bool IsHeld => _lock.IsHeld;

    /// <inheritdoc cref="Lock.Lost"/>
    public CancellationToken Lost => _lock.Lost;

    /// <inheritdoc cref="Lock.FencingToken"/>
    public long? FencingToken => _lock.FencingToken;

    /// <inheritdoc cref="Lock.Slot"/>
    public int? Slot => _lock.Slot;

    /// <inheritdoc cref="Lock.Acquire(bool)"/>
    /// <exception cref="InvalidOperationException">
    /// The context's execution strategy retries, a transaction is missing, or the lock is in use.
    /// </exception>
    public bool Acquire(bool block = true) => Completed(Acquire(Wait(block), async: false, CancellationToken.None));

    /// <inheritdoc cref="Lock.Acquire(TimeSpan)"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    public bool Acquire(TimeSpan timeout) => Completed(Acquire(timeout, async: false, CancellationToken.None));

    /// <inheritdoc cref="Lock.AcquireAsync(bool, CancellationToken)"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    public ValueTask<bool> AcquireAsync(bool block = true, CancellationToken cancellationToken = default) =>
        Acquire(Wait(block), async: true, cancellationToken);

    /// <inheritdoc cref="Lock.AcquireAsync(CancellationToken)"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    public ValueTask<bool> AcquireAsync(CancellationToken cancellationToken) => Acquire(Wait(block: true), async: true, cancellationToken);

    /// <inheritdoc cref="Lock.AcquireAsync(TimeSpan, CancellationToken)"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    public ValueTask<bool> AcquireAsync(TimeSpan timeout, CancellationToken cancellationToken = default) =>
        Acquire(timeout, async: true, cancellationToken);

    /// <inheritdoc cref="Lock.Release()"/>
    public bool Release() => Completed(Release(async: false));

    /// <inheritdoc cref="Lock.Release()"/>
    public ValueTask<bool> ReleaseAsync() => Release(async: true);

    /// <inheritdoc cref="Lock.IsHeldNow()"/>
    public bool IsHeldNow() => Completed(IsHeldNow(async: false, CancellationToken.None));

    /// <inheritdoc cref="Lock.IsHeldAsync(CancellationToken)"/>
    public ValueTask<bool> IsHeldAsync(CancellationToken cancellationToken = default) => IsHeldNow(async: true, cancellationToken);

    /// <inheritdoc cref="Lock.Renew()"/>
    public bool Renew() => Completed(Renew(async: false, CancellationToken.None));

    /// <inheritdoc cref="Lock.RenewAsync(CancellationToken)"/>
    public ValueTask<bool> RenewAsync(CancellationToken cancellationToken = default) => Renew(async: true, cancellationToken);

    /// <inheritdoc cref="Lock.ThrowIfLost"/>
    public void ThrowIfLost() => _lock.ThrowIfLost();

    /// <summary>
    /// Prepares the release after the work failed: rolls the context's transaction back, unless <see cref="LockOptions.RollbackOnError"/>
    /// is off. It does not throw, and the release that follows does not throw over the caller's own exception either.
    /// </summary>
    /// <param name="error">The work's exception.</param>
    public void HandleError(Exception error) => Completed(HandleError(error, async: false));

    /// <inheritdoc cref="HandleError(Exception)"/>
    public ValueTask HandleErrorAsync(Exception error) => HandleError(error, async: true);

    /// <inheritdoc cref="Lock.Run(Action, TimeSpan?)"/>
    public void Run(Action body, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        Completed(Run(Running.Body(body), timeout, orThrow: true, async: false, CancellationToken.None));
    }

    /// <inheritdoc cref="Lock.RunAsync(Func{CancellationToken, Task}, TimeSpan?, CancellationToken)"/>
    public Task RunAsync(Func<CancellationToken, Task> body, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        return Run(token => new ValueTask(body(token)), timeout, orThrow: true, async: true, cancellationToken).AsTask();
    }

    /// <inheritdoc cref="Lock.TryRun(Action, TimeSpan)"/>
    public bool TryRun(Action body, TimeSpan timeout = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        return Completed(Run(Running.Body(body), timeout, orThrow: false, async: false, CancellationToken.None));
    }

    /// <inheritdoc cref="Lock.TryRunAsync(Func{CancellationToken, Task}, TimeSpan, CancellationToken)"/>
    public Task<bool> TryRunAsync(
        Func<CancellationToken, Task> body, TimeSpan timeout = default, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        return Run(token => new ValueTask(body(token)), timeout, orThrow: false, async: true, cancellationToken).AsTask();
    }

    /// <summary>
    /// Lets go of the lock if it is held, as <see cref="Lock.Dispose()"/> does, and lets the context close its connection.
    /// </summary>
    public void Dispose() => Completed(Dispose(async: false));

    /// <inheritdoc cref="Dispose()"/>
    public ValueTask DisposeAsync() => Dispose(async: true);

    private static TimeSpan Wait(bool block) => block ? Timeout.InfiniteTimeSpan : TimeSpan.Zero;

    private async ValueTask<bool> Acquire(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        var left = await Open(timeout, async, cancellationToken).ConfigureAwait(false);
        try
        {
            return async ? await _lock.AcquireAsync(left, cancellationToken).ConfigureAwait(false) : _lock.Acquire(left);
        }
        finally
        {
            await CloseUnlessHeld(async).ConfigureAwait(false);
        }
    }

    private async ValueTask<bool> Release(bool async)
    {
        Follow();
        try
        {
            return async ? await _lock.ReleaseAsync().ConfigureAwait(false) : _lock.Release();
        }
        finally
        {
            await CloseUnlessHeld(async).ConfigureAwait(false);
        }
    }

    private ValueTask<bool> IsHeldNow(bool async, CancellationToken cancellationToken)
    {
        Follow();
        return _lock.Holding.Confirm(async, orThrow: true, cancellationToken);
    }

    private ValueTask<bool> Renew(bool async, CancellationToken cancellationToken)
    {
        Follow();
        return _lock.Holding.Renew(async, cancellationToken);
    }

    private async ValueTask HandleError(Exception error, bool async)
    {
        await RollBack(async).ConfigureAwait(false);
        await _lock.Holding.HandleError(error, async).ConfigureAwait(false);
    }

    private async ValueTask<bool> Run(
        Func<CancellationToken, ValueTask> body, TimeSpan? timeout, bool orThrow, bool async, CancellationToken cancellationToken)
    {
        var left = await Open(timeout ?? Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false);
        try
        {
            if (!orThrow)
            {
                return await Running.Run(_lock.Holding, Followed, left, async, cancellationToken).ConfigureAwait(false);
            }

            await Running.RunOrThrow(_lock.Holding, Followed, left, async, cancellationToken).ConfigureAwait(false);
            return true;
        }
        finally
        {
            await CloseUnlessHeld(async).ConfigureAwait(false);
        }

        // The transaction in which the context is after the body may be another than before.
        async ValueTask Followed(CancellationToken token)
        {
            try
            {
                await body(token).ConfigureAwait(false);
                Follow();
            }
            catch (Exception)
            {
                await RollBack(async).ConfigureAwait(false);
                throw;
            }
        }
    }

    private async ValueTask Dispose(bool async)
    {
        Follow();
        await _lock.Dispose(async).ConfigureAwait(false);
        await _connection.Close(async).ConfigureAwait(false);
    }

    // Returns how much of the timeout is left.
    private async ValueTask<TimeSpan> Open(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        Admission.CheckTimeout(timeout, Key, TimeSpan.MaxValue, dialect: null);
        cancellationToken.ThrowIfCancellationRequested();
        var limit = Limit.Of(timeout, cancellationToken);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (async && limit.Timeout > TimeSpan.Zero)
        {
            end.CancelAfter(limit.LeftToAnswer);
        }

        try
        {
            await _connection.Open(async, end.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (end.IsCancellationRequested)
        {
            throw cancellationToken.IsCancellationRequested
                ? Refusals.Cancelled(Key, e, cancellationToken) : Refusals.NoConnection(Key, timeout, e);
        }

        Follow();
        return limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : timeout;
    }

    // A lock of transaction scope ends with the transaction, which keeps the connection open by itself.
    private ValueTask CloseUnlessHeld(bool async) => _lock.IsHeld && _lock.Scope != LockScope.Transaction
        ? default : _connection.Close(async);

    private void Follow()
    {
        var current = Current()?.GetDbTransaction();
        if (current != _lock.Transaction)
        {
            _lock.Transaction = current;
        }
    }

    private IDbContextTransaction? Current()
    {
        try
        {
            return _database.CurrentTransaction;
        }
        catch (ObjectDisposedException)
        {
            // The context was disposed before its lock, and its transaction with it.
            return null;
        }
    }

    // The context must know of the rollback, or it would take the transaction for one that is open.
    private async ValueTask RollBack(bool async)
    {
        if (_rollbackOnError && Current() is { } transaction)
        {
            try
            {
                if (async)
                {
                    await transaction.RollbackAsync(CancellationToken.None).ConfigureAwait(false);
                }
                else
                {
                    transaction.Rollback();
                }
            }
            catch (Exception)
            {
                // The transaction has ended with its connection. The caller's own exception is on its way.
            }
        }

        Follow();
    }
}
