namespace DbLock;

/// <summary>
/// Undoes an acquire that has failed. The server may have granted the lock in the same instant, so it is told to let go, or is asked. If
/// that fails, the session is ended.
/// </summary>
internal static class Undoing
{
    /// <summary>Undoes a failed acquire.</summary>
    /// <returns>Whether the session had to be ended that was alive until then.</returns>
    public static async ValueTask<bool> Undo(Conversation conversation, LockRequest request, Answer failed, bool isCancelled, bool async)
    {
        var outcome = Judging.OutcomeOf(failed, isCancelled);
        var isInDoubt = Judging.IsInDoubt(failed, request, isCancelled);
        var reason = failed.Error;

        // A statement that was cancelled before it was sent has made no savepoint. Should it have been sent all the same, the undo fails,
        // and the session is ended.
        var hasSavepoint = request.InTransaction && !failed.IsNotSent && !isInDoubt;
        if (failed.IsNotSent && !conversation.IsOpen)
        {
            return false;
        }

        if (failed.Error is SilenceException)
        {
            // The connection was given up already, and its session with it.
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
                // The server says that there is no savepoint: the wait was not begun.
                case LockOutcome.NotAcquired when !isInDoubt:
                    return false;

                // Neither the acquire nor the undo was sent.
                case var _ when answer.IsNotSent && failed.IsNotSent:
                    return false;

                // The cancel came before the server's answer, so that the savepoint stands. It is undone once more, now with the savepoint.
                case LockOutcome.TransactionAborted when isInDoubt && !hasSavepoint:
                    hasSavepoint = true;
                    break;

                // The server has refused the acquire, so that the lock is certainly not held. The failed transaction is the caller's to
                // roll back.
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

    /// <summary>Throws when the connection is in a failed transaction that was not given to the lock.</summary>
    public static void ThrowIfUnknownTransaction(Conversation conversation, Exception? error)
    {
        if (!conversation.IsInTransaction)
        {
            throw Refusals.UnknownTransaction(conversation.Key, error);
        }
    }

    /// <summary>Lets go of the other keys of a hold of several keys, one of which was lost.</summary>
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
