using System.Runtime.ExceptionServices;

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

    /// <summary>Makes it last, as <see cref="Keep"/>, and throws the error.</summary>
    public static async ValueTask KeepOrThrow(Conversation conversation, bool async, CancellationToken cancellationToken)
    {
        if (await Keep(conversation, async, cancellationToken).ConfigureAwait(false) is { } error)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ExceptionDispatchInfo.Throw(error);
        }
    }

    /// <summary>
    /// Returns the question whether a lock is still held: where the session is known to be the client's own, that is so while it lives.
    /// </summary>
    /// <param name="conversation">The conversation.</param>
    /// <param name="hold">What is held.</param>
    /// <param name="since">What else is said with it; null for nothing.</param>
    public static LockStatement Question(Conversation conversation, Hold hold, IEnumerable<LockCommand>? since)
    {
        var session = conversation.PhysicalSession;
        var sessionId = conversation.HasOwnConnection && session.IsDirect
            ? session.Id(conversation.Connection, conversation.Driver) : null;
        var isAlive = sessionId is { } id ? conversation.Dialect.IsAlive(id) : null;
        var isHeld = isAlive ?? conversation.Dialect.IsHeld(new LockRequest(conversation.Key) { Shared = hold.Options.Shared });
        var question = since is null
            ? isHeld with { MayPrepare = session.IsDirect } : new LockStatement([.. isHeld.Commands, .. since]);
        return question with { Limit = TrustWindow.Length, Comment = conversation.Comment };
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
