using System.Data.Common;
using System.Globalization;

namespace DbLock;

/// <summary>A lock and a transaction in one call.</summary>
public static class LockTransactionExtensions
{
    private static int _savepoints;

    /// <summary>
    /// Runs a body under the lock and in a transaction. Where <see cref="Lock.Transaction"/> is open, the body runs in a savepoint of it,
    /// and an error rolls back the body's own part alone; else a transaction is begun, committed after the body, and rolled back when the
    /// body fails. The body's exception comes out in both cases.
    /// </summary>
    /// <param name="lock">The lock.</param>
    /// <param name="body">The body, given the transaction for its commands; it neither commits nor rolls back.</param>
    /// <param name="timeout">How long to wait for the lock; null waits for ever.</param>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout. The body did not run.</exception>
    /// <exception cref="LockLostException">The body ran to its end, but the lock was lost before.</exception>
    /// <remarks>
    /// A lock of session scope is acquired before the transaction begins and released after its commit, so that the next holder sees the
    /// work. In a transaction that was open before it is released before that commits, which is warned of: use
    /// <see cref="LockScope.Transaction"/> there.
    /// </remarks>
    public static void RunInTransaction(this Lock @lock, Action<DbTransaction> body, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(@lock);
        ArgumentNullException.ThrowIfNull(body);
        Synchronously.Completed(Run(@lock, Body, timeout, async: false, CancellationToken.None));

        ValueTask Body(DbTransaction transaction, CancellationToken cancellationToken)
        {
            body(transaction);
            return ValueTask.CompletedTask;
        }
    }

    /// <inheritdoc cref="RunInTransaction(Lock, Action{DbTransaction}, TimeSpan?)" path="/summary"/>
    /// <inheritdoc cref="RunInTransaction(Lock, Action{DbTransaction}, TimeSpan?)" path="/exception"/>
    /// <inheritdoc cref="RunInTransaction(Lock, Action{DbTransaction}, TimeSpan?)" path="/remarks"/>
    /// <param name="lock">The lock.</param>
    /// <param name="body">
    /// The body, given the transaction for its commands, and a token that fires when the caller's does or when <see cref="Lock.Lost"/>
    /// does.
    /// </param>
    /// <param name="timeout">How long to wait for the lock; null waits for ever.</param>
    /// <param name="cancellationToken">Ends the wait, and is given to the body.</param>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The body did not run.</exception>
    public static Task RunInTransactionAsync(
        this Lock @lock, Func<DbTransaction, CancellationToken, Task> body, TimeSpan? timeout = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(@lock);
        ArgumentNullException.ThrowIfNull(body);
        return Run(@lock, Body, timeout, async: true, cancellationToken).AsTask();

        ValueTask Body(DbTransaction transaction, CancellationToken token) => new(body(transaction, token));
    }

    private static ValueTask Run(
        Lock @lock, Func<DbTransaction, CancellationToken, ValueTask> body, TimeSpan? timeout, bool async,
        CancellationToken cancellationToken)
    {
        if (@lock.Transaction is { } outer && outer.IsOpen())
        {
            return RunInSavepoint(@lock, outer, body, timeout, async, cancellationToken);
        }

        return @lock.Scope != LockScope.Transaction
            ? Running.RunOrThrow(@lock.Holding, BodyInTransaction, timeout, async, cancellationToken)
            : Begin(@lock, BodyUnderLock, async, cancellationToken);

        ValueTask BodyInTransaction(CancellationToken token) =>
            Begin(@lock, transaction => body(transaction, token), async, token);

        ValueTask BodyUnderLock(DbTransaction transaction) =>
            Running.RunOrThrow(@lock.Holding, token => body(transaction, token), timeout, async, cancellationToken);
    }

    // A transaction that is disposed before its commit is rolled back.
    private static async ValueTask Begin(Lock @lock, Func<DbTransaction, ValueTask> body, bool async, CancellationToken cancellationToken)
    {
        var transaction = async
            ? await @lock.Connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false)
            : @lock.Connection.BeginTransaction();
        try
        {
            @lock.Transaction = transaction;
            await body(transaction).ConfigureAwait(false);
            if (async)
            {
                await transaction.CommitAsync(CancellationToken.None).ConfigureAwait(false);
            }
            else
            {
                transaction.Commit();
            }
        }
        catch (Exception)
        {
            @lock.Transaction = null;
            try
            {
                await transaction.Dispose(async).ConfigureAwait(false);
            }
            catch (Exception)
            {
                // The connection is broken, and the transaction with it. The body's own exception is on its way, which an exception from
                // here would hide.
            }

            throw;
        }

        @lock.Transaction = null;
        await transaction.Dispose(async).ConfigureAwait(false);
    }

    private static async ValueTask RunInSavepoint(
        Lock @lock, DbTransaction outer, Func<DbTransaction, CancellationToken, ValueTask> body, TimeSpan? timeout, bool async,
        CancellationToken cancellationToken)
    {
        // Each savepoint has a name of its own, because MySQL forgets a savepoint when another of its name is made.
        var savepoint = string.Create(CultureInfo.InvariantCulture, $"dblock_body_{Interlocked.Increment(ref _savepoints)}");
        var (set, goBack, forget) = @lock.Dialect.SystemName == "microsoft.sql_server"
            ? ("save transaction", "rollback transaction", null)
            : ("savepoint", "rollback to savepoint", "release savepoint");
        await Execute(@lock, outer, set, savepoint, async).ConfigureAwait(false);
        var isAcquired = false;
        try
        {
            await Running.AcquireOrThrow(@lock.Holding, timeout, async, cancellationToken).ConfigureAwait(false);
            isAcquired = true;
            using var ended = CancellationTokenSource.CreateLinkedTokenSource(
                cancellationToken, async ? @lock.Lost : CancellationToken.None);
            await body(outer, ended.Token).ConfigureAwait(false);
            await Execute(@lock, outer, forget, savepoint, async).ConfigureAwait(false);
        }
        catch (Exception)
        {
            try
            {
                await Execute(@lock, outer, goBack, savepoint, async).ConfigureAwait(false);
                await Execute(@lock, outer, forget, savepoint, async).ConfigureAwait(false);
            }
            catch (Exception)
            {
                // The transaction is broken, and its next statement will say so. The body's own exception is on its way, which an exception
                // from here would hide.
            }

            if (isAcquired)
            {
                await LetGo(@lock, async).ConfigureAwait(false);
            }

            throw;
        }

        await Running.ReleaseAfterBody(@lock.Holding, async).ConfigureAwait(false);
    }

    private static async ValueTask LetGo(Lock @lock, bool async)
    {
        try
        {
            await @lock.Holding.LetGoAfterError(async).ConfigureAwait(false);
        }
        catch (InvalidOperationException)
        {
            // The body has left a call on the lock running. Its own exception is on its way and says what is wrong.
        }
    }

    // The commands are written here because not every provider has methods for savepoints (ODBC's has none). SQL Server has no command to
    // release one.
    private static async ValueTask Execute(Lock @lock, DbTransaction transaction, string? words, string savepoint, bool async)
    {
        if (words is null)
        {
            return;
        }

        var command = @lock.Connection.CreateCommand();
        command.CommandText = $"{words} {savepoint}";
        command.Transaction = Wrapper.TransactionOf(@lock.Connection, transaction);
        try
        {
            _ = async ? await command.ExecuteNonQueryAsync(CancellationToken.None).ConfigureAwait(false) : command.ExecuteNonQuery();
        }
        finally
        {
            await command.Dispose(async).ConfigureAwait(false);
        }
    }
}
