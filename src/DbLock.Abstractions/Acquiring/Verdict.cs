using System.Data.Common;

namespace DbLock;

/// <summary>The meaning of an acquire's answer, from which follows what is done next.</summary>
internal enum Verdict
{
    /// <summary>The lock is held.</summary>
    Granted,

    /// <summary>The transaction of <see cref="LockRequest.HeldIn"/> is still open and holds the lock; nothing was done.</summary>
    AlreadyHeld,

    /// <summary>The lock is held elsewhere, and nothing was taken.</summary>
    HeldElsewhere,

    /// <summary>The provider has sent nothing, so that nothing was taken.</summary>
    NotSent,

    /// <summary>The server's locks cannot be trusted, and nothing was taken.</summary>
    Untrusted,

    /// <summary>The server has not answered in time. The connection was given up together with its session.</summary>
    Silent,

    /// <summary>The transaction had failed before the acquire, so that not even its savepoint was made.</summary>
    TransactionFailed,

    /// <summary>
    /// The transaction may hold the lock: a cancel has hidden the answer to a wait, or a try has failed, which has no savepoint to go back
    /// to. The lock is asked for once more, because a transaction that holds a lock is granted it again.
    /// </summary>
    MayBeGranted,

    /// <summary>
    /// The time for waiting is over. This and the verdicts after it are failures that were undone: what was granted in that instant was let
    /// go.
    /// </summary>
    TimedOut,

    /// <summary>The server has ended the wait to break a deadlock.</summary>
    Deadlocked,

    /// <summary>The caller has cancelled the wait.</summary>
    Cancelled,

    /// <summary>The server has ended the wait, because of a limit on statements or because an administrator cancelled it.</summary>
    EndedByServer,

    /// <summary>The connection broke.</summary>
    Broken,

    /// <summary>The acquire has failed for another reason, which the error tells.</summary>
    Failed,

    /// <summary>No answer came back.</summary>
    NotAnswered,
}

/// <summary>Turns answers into verdicts. These are functions without side effects.</summary>
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

        // If the caller has cancelled, this does not prove that nothing was sent: a cancel meets a provider at any point, and some then
        // fail with errors that say nothing of what the server did.
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

        // Some providers say with other exceptions than their own that the connection has ended: System.Data.Odbc "The connection has been
        // disabled", MySqlConnector a NullReferenceException.
        LockOutcome.Unknown when answer.Error is not null and not DbException && !isOpen => Verdict.Broken,
        _ => answer.Error is null ? Verdict.NotAnswered : Verdict.Failed,
    };

    /// <summary>
    /// Says whether the server may have answered although the provider reports a cancel: psqlODBC may throw away an answer that had come.
    /// In that case the savepoint of the acquire is released already.
    /// </summary>
    public static bool IsInDoubt(in Answer answer, in LockRequest request, bool isCancelled) =>
        OutcomeOf(answer, isCancelled) == LockOutcome.Unknown && request.InTransaction && !answer.IsNotSent && isCancelled;

    // A try is sent without a savepoint, so that nothing lets go of what it may have taken.
    private static bool IsTryInDoubt(in Answer answer, in LockRequest request) =>
        request.Try && answer is { Error: not null, Outcome: LockOutcome.Unknown, IsNotSent: false };

    /// <summary>Returns the outcome for which the acquire is undone. A refusal after the caller's cancel counts as the cancel.</summary>
    public static LockOutcome OutcomeOf(in Answer answer, bool isCancelled) =>
        answer.Outcome == LockOutcome.Refused && isCancelled ? LockOutcome.Cancelled : answer.Outcome;
}
