using System.Runtime.ExceptionServices;

namespace DbLock;

/// <summary>Asks the server who holds the lock of a conversation.</summary>
internal static class Holders
{
    public static async ValueTask<LockHolders> Ask(Conversation conversation, bool async, CancellationToken cancellationToken)
    {
        Admission.CheckOpen(conversation);
        var dialect = conversation.Dialect;
        if (conversation.Options.Scope == LockScope.Lease)
        {
            return await LeaseHolders.Ask(conversation, Leasing.Of(dialect), async).ConfigureAwait(false);
        }

        // Of the slots, the first that is held is told.
        var key = conversation.Key.OnServer;
        var request = new LockRequest(key)
        {
            Scope = LockScope.Transaction,
            Timeout = Timeout.InfiniteTimeSpan,
            InTransaction = conversation.IsInTransaction,
        };
        var question = dialect.Holders(request) ?? throw Refusals.NoHolders(dialect);
        var answer = await conversation.Ask(question, async, cancellationToken).ConfigureAwait(false);
        if (answer.Error is null)
        {
            var holders = dialect.ReadHolders(key, answer.Value);
            return key == conversation.Key ? holders : new LockHolders(conversation.Key, holders, holders.Waiting)
            {
                Hidden = holders.Hidden,
            };
        }

        if (request.InTransaction && !answer.IsNotSent && answer.Outcome is LockOutcome.Refused or LockOutcome.Cancelled)
        {
            // The question has failed in the transaction, which goes back to the savepoint before it. The undo gets one key only: for
            // several keys it would let go of those that this session holds.
            var undo = dialect.Undo(request with { Key = key.Keys[0] }, LockOutcome.NotAcquired);
            await conversation.Ask(undo, async, CancellationToken.None).ConfigureAwait(false);
        }

        ExceptionDispatchInfo.Throw(answer.Error);
        return null!;
    }

    /// <summary>
    /// Asks who holds the lock, for the message of another failure. It throws nothing, and returns null when the server does not say.
    /// </summary>
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
