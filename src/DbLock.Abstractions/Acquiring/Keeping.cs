using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace DbLock;

/// <summary>Gives the session of a lock's own connection the settings with which it lasts, and puts back what was before.</summary>
internal static class Keeping
{
    /// <summary>Sets them, unless that was done before, and shows the lock's name in the session.</summary>
    /// <returns>
    /// The error with which the session has ended, or a cancel that hit it; null when the settings are made, and when the server refuses
    /// them.
    /// </returns>
    public static async ValueTask<Exception?> Keep(Conversation conversation, bool async, CancellationToken cancellationToken)
    {
        if (conversation.HasAskedForSettings || SessionSettings.For(
            conversation.Connection, conversation.Driver, conversation.Dialect, conversation.Options, conversation.Key) is not { } settings)
        {
            return null;
        }

        conversation.HasAskedForSettings = true;
        var answer = await conversation.Ask(
            Within(conversation.Limit, settings.Statement), async, cancellationToken).ConfigureAwait(false);
        if (answer.Error is not { } error)
        {
            conversation.Settings = settings.AfterAnswer(answer.Value);
            return null;
        }

        if (settings.IsRefused(error, answer.Outcome))
        {
            return cancellationToken.IsCancellationRequested ? error : null;
        }

        conversation.CloseAfterEnd();
        return error;
    }

    /// <summary>Does the same as <see cref="Keep"/>, and throws the error.</summary>
    public static async ValueTask KeepOrThrow(Conversation conversation, bool async, CancellationToken cancellationToken)
    {
        if (await Keep(conversation, async, cancellationToken).ConfigureAwait(false) is { } error)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ExceptionDispatchInfo.Throw(error);
        }
    }

    /// <summary>Asks whether a lock is still held.</summary>
    /// <returns>
    /// Whether it is, and the error that came instead of an answer; null and an error when the session lives and cannot say.
    /// </returns>
    public static async ValueTask<(bool? IsHeld, Exception? Error)> Ask(
        Conversation conversation, Hold hold, IEnumerable<LockCommand>? since, bool async, CancellationToken cancellationToken)
    {
        conversation.Trust.Ask(Stopwatch.GetTimestamp());
        var answer = await conversation.Ask(Question(conversation, hold, since), async, cancellationToken).ConfigureAwait(false);

        // The server may answer with an error instead: somebody has cancelled the question, the lock table is full, or a right is missing.
        // Such an answer shows that the session lives, and with it what it holds.
        var lives = answer.Error is not null && conversation.IsOpen
            && answer.Outcome is not (LockOutcome.ConnectionLost or LockOutcome.Unknown);
        if (!answer.IsYes && !lives)
        {
            conversation.Trust.Fail();
            return (false, answer.Error);
        }

        conversation.Trust.Confirm();
        return (answer.IsYes ? true : null, answer.Error);
    }

    /// <summary>
    /// Returns the question whether a lock is still held. Where the client is known to speak to one session directly, the question is
    /// whether that session lives: the lock on its own connection ends with the session and with nothing else.
    /// </summary>
    /// <param name="conversation">The conversation.</param>
    /// <param name="hold">What is held.</param>
    /// <param name="since">Commands that are sent with the question; null for none.</param>
    private static LockStatement Question(Conversation conversation, Hold hold, IEnumerable<LockCommand>? since)
    {
        var session = conversation.PhysicalSession;
        var sessionId = conversation.HasOwnConnection && session.IsDirect
            ? session.Id(conversation.Connection, conversation.Driver) : null;
        var isAlive = sessionId is { } id ? conversation.Dialect.IsAlive(id) : null;
        var isHeld = isAlive ?? conversation.Dialect.IsHeld(
            new LockRequest(hold.Key) { Shared = hold.Options.Shared, Scope = hold.Options.Scope });
        var question = since is null
            ? isHeld with { MayPrepare = session.IsDirect && !conversation.IsInTransaction }
            : new LockStatement([.. isHeld.Commands, .. since]);
        return question with { Limit = TrustWindow.Length, Comment = conversation.Comment };
    }

    /// <summary>
    /// Puts back the settings that the session had before, within a limit. If that fails, the connection is closed and its session ended.
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

    // Sets the time limit as the command's timeout as well, for a provider whose call cannot be ended from another thread.
    private static LockStatement Within(Limit limit, LockStatement statement) =>
        limit.LeftToAnswer is var left && left > TimeSpan.Zero && left < statement.Limit ? statement with { Limit = left } : statement;
}
