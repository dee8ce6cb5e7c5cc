namespace DbLock;

/// <summary>What became of a session that was in the way.</summary>
public enum PgClearOutcome
{
    /// <summary>Nothing was done, since this was a dry run: it would have been signalled.</summary>
    Planned,

    /// <summary>Nothing was done, since the options spare it.</summary>
    Spared,

    /// <summary>Nothing was done: the role may not signal it, or may not see enough to be sure that it is the right one.</summary>
    Refused,

    /// <summary>Nothing was done, nor needed: it had ended or let go of the lock before.</summary>
    AlreadyGone,

    /// <summary>It still has the lock, but nobody with priority waits for it any more, so nothing was done, or nothing more.</summary>
    NotNeeded,

    /// <summary>It was signalled, and the session has ended.</summary>
    Ended,

    /// <summary>It was signalled, and the session goes on without the lock.</summary>
    LetGo,

    /// <summary>It was signalled, and still has the lock.</summary>
    Remains,
}
