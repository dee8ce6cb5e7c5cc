namespace DbLock;

/// <summary>What an acquire has come to, and so what is to be done.</summary>
internal enum Verdict
{
    /// <summary>The lock is held.</summary>
    Granted,

    /// <summary>The transaction holds it already, as was asked.</summary>
    AlreadyHeld,

    /// <summary>It is held elsewhere; nothing was taken.</summary>
    HeldElsewhere,

    /// <summary>The provider has sent nothing; nothing was taken.</summary>
    NotSent,

    /// <summary>The server's locks cannot be trusted; nothing was taken.</summary>
    Untrusted,

    /// <summary>The server has not answered in time, and the connection was left behind with its session.</summary>
    Silent,

    /// <summary>The transaction had failed before, so that not even a savepoint was made.</summary>
    TransactionFailed,

    /// <summary>
    /// A cancel has hidden the answer to a wait, or no savepoint would let go of what a try has taken, and the transaction may hold the
    /// lock: it is asked for once more, since a transaction is granted again what it holds.
    /// </summary>
    MayBeGranted,

    /// <summary>The wait has failed, and what was taken in that instant is undone: its time is over.</summary>
    TimedOut,

    /// <summary>As <see cref="TimedOut"/>: the server ended it to break a deadlock.</summary>
    Deadlocked,

    /// <summary>As <see cref="TimedOut"/>: the caller cancelled it.</summary>
    Cancelled,

    /// <summary>As <see cref="TimedOut"/>: the server ended it, by a limit on statements or for an administrator.</summary>
    EndedByServer,

    /// <summary>As <see cref="TimedOut"/>: the connection broke.</summary>
    Broken,

    /// <summary>As <see cref="TimedOut"/>: the error says why.</summary>
    Failed,

    /// <summary>As <see cref="TimedOut"/>: no answer came back.</summary>
    NotAnswered,
}

/// <summary>From an answer to a verdict.</summary>
internal static class Judging
{
    /// <summary>Judges the answer to an acquire.</summary>
    /// <param name="answer">The answer.</param>
    /// <param name="request">What was asked.</param>
    /// <param name="isCancelled">Whether the caller has cancelled.</param>
    /// <param name="isOpen">Whether the connection is open still.</param>
    public static Verdict Judge(in Answer answer, in LockRequest request, bool isCancelled, bool isOpen) => answer switch
    {
        { Error: null, Outcome: LockOutcome.Acquired } => Verdict.Granted,
        { Error: null, Outcome: LockOutcome.AlreadyHeld } => Verdict.AlreadyHeld,
        { Error: null, Outcome: LockOutcome.NotAcquired } => Verdict.HeldElsewhere,
        { Error: LockException } => Verdict.Untrusted,
        { Error: SilenceException } => Verdict.Silent,

        // A cancel meets providers at any point, and some then fail in ways that have nothing to do with what the server did.
        { IsNotSent: true } when !isCancelled && isOpen => Verdict.NotSent,
        { Outcome: LockOutcome.TransactionAborted } => Verdict.TransactionFailed,
        _ when isOpen && request.Scope == LockScope.Transaction
            && (IsInDoubt(answer, request, isCancelled) || IsTryInDoubt(answer, request)) => Verdict.MayBeGranted,
        _ => OfFailure(answer, isCancelled, isOpen),
    };

    /// <summary>Judges an acquire that has failed and was undone.</summary>
    public static Verdict OfFailure(in Answer answer, bool isCancelled, bool isOpen) => OutcomeOf(answer, isCancelled) switch
    {
        LockOutcome.NotAcquired => Verdict.TimedOut,
        LockOutcome.Deadlock => Verdict.Deadlocked,
        LockOutcome.Cancelled or LockOutcome.Unknown when isCancelled => Verdict.Cancelled,
        LockOutcome.Cancelled => isOpen ? Verdict.EndedByServer : Verdict.Broken,
        LockOutcome.Unknown when answer.Error is ObjectDisposedException => Verdict.Broken,
        _ => answer.Error is null ? Verdict.NotAnswered : Verdict.Failed,
    };

    /// <summary>
    /// Says whether the server may have answered, and a cancel of the provider's (psqlODBC's) thrown the answer away: then the savepoint of
    /// the acquire is gone, too.
    /// </summary>
    public static bool IsInDoubt(in Answer answer, in LockRequest request, bool isCancelled) =>
        OutcomeOf(answer, isCancelled) == LockOutcome.Unknown && request.InTransaction && !answer.IsNotSent && isCancelled;

    // A try has no savepoint that would let go of what it has taken.
    private static bool IsTryInDoubt(in Answer answer, in LockRequest request) =>
        request.Try && answer is { Error: not null, Outcome: LockOutcome.Unknown, IsNotSent: false };

    /// <summary>Returns what is to be undone after a failure.</summary>
    public static LockOutcome OutcomeOf(in Answer answer, bool isCancelled) =>
        answer.Outcome == LockOutcome.Refused && isCancelled ? LockOutcome.Cancelled : answer.Outcome;
}
