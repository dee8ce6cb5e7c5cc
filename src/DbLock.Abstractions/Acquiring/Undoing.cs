namespace DbLock;

/// <summary>
/// Undoes an acquire that has failed: it may have been granted in that instant, and the server is the only one who knows. What the server
/// cannot tell costs the session.
/// </summary>
internal static class Undoing
{
    /// <summary>Undoes it.</summary>
    /// <returns>Whether a session that lived had to be ended.</returns>
    public static async ValueTask<bool> Undo(Conversation conversation, LockRequest request, Answer failed, bool isCancelled, bool async)
    {
        var outcome = Judging.OutcomeOf(failed, isCancelled);
        var isInDoubt = Judging.IsInDoubt(failed, request, isCancelled);
        var reason = failed.Error;

        // What was not sent, because the cancel came first, has made no savepoint. Where that is not so, the undo fails, and costs the
        // session.
        var hasSavepoint = request.InTransaction && !failed.IsNotSent && !isInDoubt;
        if (failed.IsNotSent && !conversation.IsOpen)
        {
            return false;
        }

        if (failed.Error is SilenceException)
        {
            // The connection is given up already.
            return true;
        }

        var lives = conversation.IsOpen && outcome != LockOutcome.ConnectionLost;
        for (var attempt = 0; attempt < Conversation.CancelAttempts && conversation.IsOpen; attempt++)
        {
            var undo = conversation.Dialect.Undo(request with { InTransaction = hasSavepoint }, outcome);
            if (undo.Commands.Length == 0)
            {
                return false;
            }

            var answer = await conversation.Ask(undo, async).ConfigureAwait(false);
            if (answer.Error is null)
            {
                return false;
            }

            reason = answer.Error;
            switch (answer.Outcome)
            {
                // The server says that there is no savepoint, so that the wait never began.
                case LockOutcome.NotAcquired when !isInDoubt:
                    return false;

                // Nothing was sent, then or now.
                case var _ when answer.IsNotSent && failed.IsNotSent:
                    return false;

                // The server had not answered, and its savepoint stands.
                case LockOutcome.TransactionAborted when isInDoubt && !hasSavepoint:
                    hasSavepoint = true;
                    break;

                // Nothing is in doubt: the server said no. The transaction is the caller's to roll back.
                case LockOutcome.TransactionAborted when outcome is not (LockOutcome.Cancelled or LockOutcome.Unknown):
                    ThrowIfUnknownTransaction(conversation, answer.Error);
                    return false;
                case LockOutcome.Cancelled:
                    break;
                default:
                    attempt = Conversation.CancelAttempts;
                    break;
            }
        }

        await conversation.EndSession(reason, async, isQuestion: reason != failed.Error).ConfigureAwait(false);
        return lives;
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

        var undo = conversation.Dialect.Undo(new LockRequest(hold.Key) { Shared = hold.Options.Shared }, LockOutcome.Unknown);
        if ((await conversation.Ask(undo, async).ConfigureAwait(false)).Error is { } error)
        {
            await conversation.EndSession(error, async).ConfigureAwait(false);
        }
    }
}
