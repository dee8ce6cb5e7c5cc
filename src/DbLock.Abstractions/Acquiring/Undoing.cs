namespace DbLock;

/// <summary>
/// Undoes an acquire that has failed: it may have been granted in that instant, and the server is the only one who knows. What the server cannot tell costs the session.
/// </summary>
internal static class Undoing
{
    // A cancel that the server notices late, or somebody else's, may hit what must not be cancelled: it is said again so often.
    private const int Attempts = 10;

    public static async ValueTask Undo(Conversation conversation, LockRequest request, Answer failed, bool isCancelled, bool async)
    {
        var outcome = Judging.OutcomeOf(failed, isCancelled);
        var isInDoubt = Judging.IsInDoubt(failed, request, isCancelled);
        var reason = failed.Error;

        // What was not sent, because the cancel came first, has made no savepoint. Where that is not so, the undo fails, and costs the session.
        var hasSavepoint = request.InTransaction && !failed.IsNotSent && !isInDoubt;
        for (var attempt = 0; attempt < Attempts && conversation.IsOpen; attempt++)
        {
            var undo = conversation.Dialect.Undo(request with { InTransaction = hasSavepoint }, outcome);
            var answer = await conversation.Ask(undo, async).ConfigureAwait(false);
            if (answer.Error is null)
            {
                return;
            }

            reason = answer.Error;
            switch (answer.Outcome)
            {
                // The server says that there is no savepoint, so that the wait never began.
                case LockOutcome.NotAcquired when !isInDoubt:
                    return;

                // Nothing was sent, then or now.
                case var _ when answer.IsNotSent && failed.IsNotSent:
                    return;

                // The server had not answered, and its savepoint stands.
                case LockOutcome.TransactionAborted when isInDoubt && !hasSavepoint:
                    hasSavepoint = true;
                    break;

                // Nothing is in doubt: the server said no. The transaction is the caller's to roll back.
                case LockOutcome.TransactionAborted when outcome is not (LockOutcome.Cancelled or LockOutcome.Unknown):
                    ThrowIfUnknownTransaction(conversation, answer.Error);
                    return;
                case LockOutcome.Cancelled:
                    break;
                default:
                    attempt = Attempts;
                    break;
            }
        }

        await conversation.EndSession(reason, async).ConfigureAwait(false);
    }

    /// <summary>Refuses where the transaction has failed that the lock does not know.</summary>
    public static void ThrowIfUnknownTransaction(Conversation conversation, Exception? error)
    {
        if (!conversation.IsInTransaction)
        {
            throw Refusals.UnknownTransaction(conversation.Key, error);
        }
    }

    /// <summary>Lets go of the other keys of a hold of several keys of which one was lost.</summary>
    public static async ValueTask LetGoOfTheRest(Conversation conversation, Hold hold, bool async)
    {
        if (!hold.Key.IsSeveral)
        {
            return;
        }

        var undo = conversation.Dialect.Undo(new LockRequest(hold.Key, hold.Options.Shared), LockOutcome.Unknown);
        if ((await conversation.Ask(undo, async).ConfigureAwait(false)).Error is { } error)
        {
            await conversation.EndSession(error, async).ConfigureAwait(false);
        }
    }
}
