using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>How a release has ended.</summary>
internal enum ReleaseVerdict
{
    /// <summary>The server has let go of the lock, and it is free.</summary>
    Released,

    /// <summary>
    /// The server has let go of the session's lock, but a transaction that this lock does not know keeps a lock of its own until it ends.
    /// </summary>
    KeptByTransaction,

    /// <summary>The server did not hold the lock any more.</summary>
    Lost,

    /// <summary>The lock is still held; the error says why.</summary>
    Refused,
}

/// <summary>Releases a hold that counts one acquire.</summary>
internal static class Releasing
{
    /// <summary>Releases it, in the database in which it was taken.</summary>
    public static ValueTask<(ReleaseVerdict Verdict, Exception? Error)> Release(Conversation conversation, Hold hold, bool async) =>
        hold.Identity.Database is { } database && conversation.IsOpen && conversation.Connection.Database != database
            ? ReleaseIn(database, conversation, hold, async) : ReleaseHere(conversation, hold, async);

    private static async ValueTask<(ReleaseVerdict Verdict, Exception? Error)> ReleaseIn(
        string database, Conversation conversation, Hold hold, bool async)
    {
        var before = conversation.Connection.Database;
        try
        {
            await GoTo(database, conversation, async).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            return conversation.IsOpen
                ? (ReleaseVerdict.Refused, Refusals.OtherDatabase(conversation.Key, database, e)) : (ReleaseVerdict.Lost, e);
        }

        var ended = await ReleaseHere(conversation, hold, async).ConfigureAwait(false);
        if (conversation.IsOpen)
        {
            await GoTo(before, conversation, async).ConfigureAwait(false);
        }

        return ended;
    }

    private static async ValueTask GoTo(string database, Conversation conversation, bool async)
    {
        if (async)
        {
            await conversation.Connection.ChangeDatabaseAsync(database, CancellationToken.None).ConfigureAwait(false);
        }
        else
        {
            conversation.Connection.ChangeDatabase(database);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<(ReleaseVerdict Verdict, Exception? Error)> ReleaseHere(Conversation conversation, Hold hold, bool async)
    {
        for (var attempt = 0; ; attempt++)
        {
            if (!conversation.IsOpen)
            {
                return (ReleaseVerdict.Lost, null);
            }

            var transaction = conversation.Transaction;
            var request = new LockRequest(conversation.Key)
            {
                Shared = hold.Options.Shared,
                InTransaction = transaction is not null,
                IsDirect = conversation.PhysicalSession.IsDirect,
                AfterWait = hold.AfterWait,
            };
            var answer = await conversation.AskToRelease(request, async).ConfigureAwait(false);
            if (answer.Error is not { } error)
            {
                // The release may have been sent twice, because a cancel hit it. Then "not held" means that the first one let go of the
                // lock.
                return (answer.Number == LockDialect.KeptByTransaction ? ReleaseVerdict.KeptByTransaction
                    : answer.IsYes || attempt > 0 ? ReleaseVerdict.Released
                    : ReleaseVerdict.Lost, null);
            }

            switch (answer.Outcome)
            {
                case LockOutcome.ConnectionLost:
                    conversation.CloseAfterEnd();
                    return (ReleaseVerdict.Lost, error);
                case var _ when !conversation.IsOpen:
                    return (ReleaseVerdict.Lost, error);
                case var _ when answer.IsNotSent:
                    return (ReleaseVerdict.Refused, Refusals.NotSent(conversation.Key, error, "The lock is still held: release it again."));
                case LockOutcome.Cancelled when attempt < Conversation.CancelAttempts - 1:
                    break;
                case LockOutcome.TransactionAborted when transaction is not null && conversation.Options.RollbackOnError:
                    // The transaction has failed, so the server accepts nothing but a rollback, and the transaction could not be committed
                    // any more.
                    var failure = await RollBack(conversation, transaction, async).ConfigureAwait(false);
                    if (conversation.Transaction is not null)
                    {
                        return (ReleaseVerdict.Refused, Refusals.NotRolledBack(conversation.Key, failure ?? error));
                    }

                    attempt = -1;
                    break;
                case LockOutcome.TransactionAborted:
                    return (ReleaseVerdict.Refused, Refusals.StillHeld(conversation.Key, transaction is not null, error));
                default:
                    return (ReleaseVerdict.Refused, error);
            }
        }
    }

    /// <summary>Rolls a transaction back. It throws nothing, because its caller is about to report the failure that came before.</summary>
    /// <returns>The exception of the rollback, which is logged; null when the rollback did not fail.</returns>
    public static async ValueTask<Exception?> RollBack(Conversation conversation, DbTransaction transaction, bool async)
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

            return null;
        }
        catch (Exception e)
        {
            Log.RollbackFailed(conversation.Logger, conversation.Key, e);
            return e;
        }
    }
}
