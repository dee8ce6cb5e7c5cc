using System.Runtime.ExceptionServices;

namespace DbLock;

/// <summary>Asks who holds the lock of a conversation.</summary>
internal static class Holders
{
    public static async ValueTask<LockHolders> Ask(Conversation conversation, bool async, CancellationToken cancellationToken)
    {
        var dialect = conversation.Dialect;
        var request = new LockRequest(conversation.Key)
        {
            Scope = LockScope.Transaction,
            Timeout = Timeout.InfiniteTimeSpan,
            InTransaction = conversation.IsInTransaction,
        };
        var question = dialect.Holders(request) ?? throw Refusals.NoHolders(dialect);
        var answer = await conversation.Ask(question, async, cancellationToken).ConfigureAwait(false);
        if (answer.Error is null)
        {
            return dialect.ReadHolders(conversation.Key, answer.Value);
        }

        if (request.InTransaction && !answer.IsNotSent && answer.Outcome is LockOutcome.Refused or LockOutcome.Cancelled)
        {
            // Back to the savepoint. Of several keys the undo would let go of those that are held.
            var undo = dialect.Undo(request with { Key = conversation.Key.Keys[0] }, LockOutcome.NotAcquired);
            await conversation.Ask(undo, async, CancellationToken.None).ConfigureAwait(false);
        }

        ExceptionDispatchInfo.Throw(answer.Error);
        return null!;
    }

    /// <summary>Asks for a message about a failure, over which nothing more may be thrown: null when nobody can say.</summary>
    public static async ValueTask<LockHolders?> TryAsk(Conversation conversation, bool async)
    {
        if (!conversation.IsOpen)
        {
            return null;
        }

        try
        {
            return await Ask(conversation, async, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception)
        {
            return null;
        }
    }
}
