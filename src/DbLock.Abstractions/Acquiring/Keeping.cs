namespace DbLock;

/// <summary>Makes a session last that is the lock's own, and leaves it as it was before.</summary>
internal static class Keeping
{
    /// <summary>Makes it last, if that was not done before, and tells the lock there.</summary>
    /// <returns>
    /// The error with which the session has ended, or which a cancel has left; null when it lasts, or the server will not have it so.
    /// </returns>
    public static async ValueTask<Exception?> Keep(Conversation conversation, bool async, CancellationToken cancellationToken)
    {
        if (conversation.IsKept || SessionSettings.For(
            conversation.Connection, conversation.Driver, conversation.Dialect, conversation.Options, conversation.Key) is not { } settings)
        {
            return null;
        }

        conversation.IsKept = true;
        var answer = await conversation.Ask(
            Within(conversation.Limit, settings.Statement), async, cancellationToken).ConfigureAwait(false);
        if (answer.Error is not { } error)
        {
            conversation.Settings = settings.Made(answer.Value);
            return null;
        }

        if (settings.IsRefused(error, answer.Outcome))
        {
            return cancellationToken.IsCancellationRequested ? error : null;
        }

        conversation.CloseAfterEnd();
        return error;
    }

    /// <summary>
    /// Puts back what was before, within a limit; a connection on which that fails is closed, and its session ended.
    /// </summary>
    public static async ValueTask PutBack(Conversation conversation, Limit limit, bool async)
    {
        if (conversation.Settings is not { } settings || !conversation.IsOpen)
        {
            return;
        }

        (conversation.Settings, conversation.Limit) = (null, limit);
        var answer = await conversation.Ask(Within(limit, settings.Undo), async).ConfigureAwait(false);
        conversation.Limit = default;
        if (answer.Error is not null)
        {
            conversation.CloseAfterEnd();
        }
    }

    // For a provider whose call cannot be ended from beside.
    private static LockStatement Within(Limit limit, LockStatement statement) =>
        limit.LeftToAnswer is var left && left > TimeSpan.Zero && left < statement.Limit ? statement with { Limit = left } : statement;
}
