using System.Data.Common;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Transactions;

namespace DbLock;

/// <summary>Opens the connections that are a lock's own, outside of any TransactionScope and within the limit of the call.</summary>
/// <remarks>
/// A session that is enlisted in a scope belongs to the scope's transaction until that ends, whatever becomes of the lock.
/// </remarks>
internal static class OwnConnection
{
    /// <summary>Opens a connection within a limit.</summary>
    /// <exception cref="LockException">The data source had none to give, or the server did not answer, within the limit.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static ValueTask<DbConnection> Open(DbDataSource dataSource, LockKey key, Limit limit, bool async) => async
        ? limit.IsSet ? OpenWithin(dataSource, key, limit) : OpenOutside(dataSource, CancellationToken.None)
        : new(limit.Timeout > TimeSpan.Zero ? OpenOnThread(dataSource, key, limit) : OpenOutside(dataSource));

    /// <summary>Opens a connection. There is no limit but the token.</summary>
    public static ValueTask<DbConnection> Open(DbDataSource dataSource, bool async, CancellationToken cancellationToken) =>
        async ? OpenOutside(dataSource, cancellationToken) : new(OpenOutside(dataSource));

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<DbConnection> OpenWithin(DbDataSource dataSource, LockKey key, Limit limit)
    {
        using var end = new TimedCancel(limit.Timeout > TimeSpan.Zero ? limit.LeftToAnswer : Timeout.InfiniteTimeSpan, limit.Token);

        // Not every provider heeds the token at every step. An opening that does not end in time is left behind, and its connection is
        // closed when it comes.
        var opening = OpenOutside(dataSource, end.Token).AsTask();
        try
        {
            return await opening.WaitAsync(end.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (end.Token.IsCancellationRequested)
        {
            _ = DisposeWhenOpen(opening);
            throw limit.Token.IsCancellationRequested
                ? Refusals.Cancelled(key, e, limit.Token) : Refusals.NoConnection(key, limit.Timeout, e);
        }
    }

    private static async Task DisposeWhenOpen(Task<DbConnection> opening)
    {
        try
        {
            var connection = await opening.ConfigureAwait(false);
            await connection.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception)
        {
            // The opening has failed, and nobody waits for it any more.
        }
    }

    // A synchronous Open cannot be cancelled, so it runs on another thread, for which this one waits within the limit.
    private static DbConnection OpenOnThread(DbDataSource dataSource, LockKey key, Limit limit)
    {
        var (connection, error, isOver) = (default(DbConnection), default(ExceptionDispatchInfo), 0);
        var opened = new ManualResetEventSlim();
        OwnThreads.Shared.Run(() =>
        {
            try
            {
                connection = OpenOutside(dataSource);
                if (Interlocked.Exchange(ref isOver, 1) != 0)
                {
                    connection.Dispose();
                }
            }
            catch (Exception e)
            {
                // Whoever waits no longer does not hear of it.
                error = ExceptionDispatchInfo.Capture(e);
            }

            opened.Set();
        });
        if (!opened.Wait(limit.LeftToAnswer) && Interlocked.Exchange(ref isOver, 1) == 0)
        {
            throw Refusals.NoConnection(key, limit.Timeout, null);
        }

        error?.Throw();
        return connection!;
    }

    private static DbConnection OpenOutside(DbDataSource dataSource)
    {
        if (Transaction.Current is null)
        {
            return dataSource.OpenConnection();
        }

        using var outside = Outside();
        return dataSource.OpenConnection();
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<DbConnection> OpenOutside(DbDataSource dataSource, CancellationToken cancellationToken)
    {
        if (Transaction.Current is null)
        {
            return await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        }

        // A TransactionScope without async flow belongs to this thread and must not be touched while the opening is awaited, so the opening
        // runs on another thread, which has no scope.
        return await Task.Run(
            async () =>
            {
                using var outside = Outside();
                return await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            },
            cancellationToken).ConfigureAwait(false);
    }

    private static TransactionScope Outside() => new(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled);
}
