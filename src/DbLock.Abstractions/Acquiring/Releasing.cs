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
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public static async ValueTask<(ReleaseVerdict Verdict, Exception? Error)> Release(Conversation conversation, Hold hold, bool async)
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
