using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace DbLock;

/// <summary>
/// The only way to acquire a lock: it looks for a hold of the connection that still stands, asks the server, and judges the answer. The
/// result is a hold, a "held elsewhere", or an exception after everything was undone.
/// </summary>
internal static class Acquiring
{
    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(200);

    /// <summary>Acquires the lock, or finds that it is held elsewhere.</summary>
    /// <param name="conversation">The conversation.</param>
    /// <param name="request">What is asked, as <see cref="Admission.Admit"/> made it.</param>
    /// <param name="hasNewTransaction">Whether a transaction was given since the lock was last acquired.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The hold, which counts one acquire more; null when the lock is held elsewhere.</returns>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public static async ValueTask<Hold?> Acquire(
        Conversation conversation, LockRequest request, bool hasNewTransaction, bool async, CancellationToken cancellationToken)
    {
        var holds = conversation.Session.Find(conversation.Identity);
        if (holds.Length > 0)
        {
            if (request.Scope == LockScope.Transaction && hasNewTransaction && AreOfOneTransaction(holds))
            {
                if (await AcquireBeside(conversation, request, holds, async, cancellationToken).ConfigureAwait(false) is { } grant)
                {
                    Array.ForEach(holds, static hold => hold.Release());
                    return ToHold(conversation, grant);
                }
            }

            if (await FindStanding(conversation, request, holds, async).ConfigureAwait(false) is { } standing)
            {
                return AcquireOnceMore(conversation, request, standing);
            }
        }

        if (conversation.HasOwnConnection && !request.Try && conversation.Dialect.KeepsSessions)
        {
            // The first question is a try, so that a free lock costs one round trip. Only before a wait the session gets its settings: they
            // show its name at the server while it waits, and make the server notice when its client is gone.
            var grant = await AskAndJudge(
                conversation, request with { Timeout = TimeSpan.Zero }, async, cancellationToken).ConfigureAwait(false);
            if (grant.Verdict == Verdict.Granted)
            {
                return ToHold(conversation, grant);
            }

            if (await Keeping.Keep(conversation, async, cancellationToken).ConfigureAwait(false) is { } error)
            {
                ThrowNotKept(conversation, error, cancellationToken);
            }
        }

        var isOneWait = conversation.Options.Wait == LockWait.Queue
            && (!cancellationToken.CanBeCanceled || conversation.Driver.CanCancel(conversation.Connection));
        return ToHold(conversation, request.Try || isOneWait
            ? await AskAndJudge(conversation, request, async, cancellationToken).ConfigureAwait(false)
            : await AskInSlices(conversation, request, async, cancellationToken).ConfigureAwait(false));
    }

    /// <summary>Tries several keys until one is free: with one statement where the engine can.</summary>
    /// <returns>Null when each of them is held, by this connection or elsewhere.</returns>
    public static async ValueTask<Hold?> AcquireAny(
        Conversation conversation, LockRequest request, IReadOnlyList<LockKey> keys, bool hasNewTransaction, bool async,
        CancellationToken cancellationToken)
    {
        // What the connection holds would be granted to it again.
        List<LockKey> others = [.. keys];
        if (conversation.Dialect.HasAny)
        {
            others.RemoveAll(key => IsFree(conversation, key));
            LockKey[] free = [.. keys.Except(others)];
            if (free.Length > 0)
            {
                conversation.Key = LockKey.All(free);
                var grant = await AskAndJudge(
                    conversation, request with { Key = conversation.Key, Any = free }, async, cancellationToken).ConfigureAwait(false);
                if (grant.Verdict == Verdict.Granted)
                {
                    conversation.Key = free[grant.Reply.Taken - 1];
                    return ToHold(conversation, grant);
                }
            }
        }

        foreach (var key in others)
        {
            conversation.Key = key;
            if (await Acquire(conversation, request with { Key = key }, hasNewTransaction, async, cancellationToken).ConfigureAwait(false)
                is { } hold)
            {
                return hold;
            }
        }

        return null;
    }

    /// <summary>Makes a key the conversation's, and says whether the connection does not hold it itself.</summary>
    public static bool IsFree(Conversation conversation, LockKey key)
    {
        conversation.Key = key;
        return conversation.Session.Find(conversation.Identity).Length == 0;
    }

    private static void ThrowNotKept(Conversation conversation, Exception error, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(conversation.Key, error, cancellationToken, isSessionEnded: !conversation.IsOpen);
        }

        if (error is SilenceException)
        {
            throw Refusals.Silent(conversation.Key, error);
        }

        ExceptionDispatchInfo.Throw(error);
    }

    /// <summary>Asks the server whether this session still holds a lock.</summary>
    private static async ValueTask<bool> IsHeld(Conversation conversation, LockRequest request, Hold hold, bool async)
    {
        var answer = await AskWhetherHeld(conversation, request, hold, async).ConfigureAwait(false);
        if (answer.Error is not null)
        {
            ExceptionDispatchInfo.Throw(answer.Error);
        }

        return answer.IsYes;
    }

    /// <summary>
    /// Releases the holds of a transaction, or of a savepoint, that has ended. It throws nothing, because its caller is about to throw the
    /// failure that came before.
    /// </summary>
    public static async ValueTask ForgetEnded(Conversation conversation, LockRequest request, Hold[] holds, bool async)
    {
        var answer = await AskWhetherHeld(conversation, request, holds[0], async).ConfigureAwait(false);

        // An error means that the transaction has failed. Its rollback will end its holds.
        if (answer is { Error: null, IsYes: false })
        {
            Array.ForEach(holds, static hold => hold.Release());
        }
    }

    private static ValueTask<Answer> AskWhetherHeld(Conversation conversation, LockRequest request, Hold hold, bool async)
    {
        var question = request with { Key = hold.Key, Shared = hold.Options.Shared, Scope = hold.Options.Scope };
        return conversation.AskDespiteCancels(conversation.Dialect.IsHeld(question), async);
    }

    // A hold of transaction scope may seem to stand although its transaction has ended, because Npgsql uses the same transaction object for
    // the next one. A transaction that holds a lock is granted it once more, so the lock is acquired, and the transaction's number in the
    // answer tells whether the hold stood. Before it acquires any other lock that shares a key with the hold, the server compares the
    // transaction itself (HeldIn). Null means that the hold stands.
    private static async ValueTask<Grant?> AcquireBeside(
        Conversation conversation, LockRequest request, Hold[] holds, bool async, CancellationToken cancellationToken)
    {
        var hold = holds[0];
        var isSame = conversation.Identity.IsSameAs(hold.Identity) && hold.Options.Shared == request.Shared;
        try
        {
            var asked = isSame ? request : request with { HeldIn = hold.TransactionId };
            var grant = await AskAndJudge(conversation, asked, async, cancellationToken).ConfigureAwait(false);
            return grant.Verdict == Verdict.AlreadyHeld || (isSame && grant.Reply.Transaction == hold.TransactionId) ? null : grant;
        }
        catch (Exception)
        {
            await ForgetEnded(conversation, request, holds, async).ConfigureAwait(false);
            throw;
        }
    }

    // The server is asked about each hold before it counts: a lock that was lost must not be acquired once more as if it were held, and a
    // hold of transaction scope may be that of an earlier transaction.
    private static async ValueTask<Hold?> FindStanding(Conversation conversation, LockRequest request, Hold[] holds, bool async)
    {
        foreach (var hold in holds)
        {
            var isSession = hold.Options.Scope == LockScope.Session;
            if ((isSession && !conversation.Options.Reentrant)
                || await IsHeld(conversation, request, hold, async).ConfigureAwait(false))
            {
                return hold;
            }

            if (!isSession)
            {
                hold.Release();
                continue;
            }

            hold.Lose();
            Log.Lost(conversation.Logger, hold.Key, null);
            await Undoing.LetGoOfTheRest(conversation, hold, async).ConfigureAwait(false);
            if (conversation.Identity.IsSameAs(hold.Identity))
            {
                throw Refusals.Lost(hold.Key, null);
            }
        }

        return null;
    }

    // The server is not asked to count: it holds the lock once, however often this connection acquires it.
    private static Hold? AcquireOnceMore(Conversation conversation, LockRequest request, Hold hold)
    {
        var options = conversation.Options;
        var reason = !conversation.Identity.IsSameAs(hold.Identity) ? "the two share a key and are not one lock"
            : !options.Reentrant ? "LockOptions.Reentrant is not set"
            : hold.Options.Shared && !options.Shared ? "it is held shared, and an exclusive lock would wait for that"
            : hold.Options.Scope != options.Scope ? "it is held with another scope"
            : null;
        if (reason is null)
        {
            hold.Count++;
            return hold;
        }

        return request.Try ? null : throw Refusals.WouldWaitForItself(hold.Key, reason);
    }

    // A wait in slices of 200 ms, for drivers that cannot cancel a wait and for LockWait.Yielding. Each slice has an end of its own, and
    // the token is looked at between two of them.
    private static async ValueTask<Grant> AskInSlices(
        Conversation conversation, LockRequest request, bool async, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var canCancel = conversation.Driver.CanCancel(conversation.Connection);
        while (true)
        {
            var left = request.Timeout - Stopwatch.GetElapsedTime(start);
            var isLast = request.Timeout >= TimeSpan.Zero && left <= Slice;
            var slice = request with { Timeout = !isLast ? Slice : left > TimeSpan.Zero ? left : TimeSpan.Zero };
            var end = await AskAndJudge(conversation, slice, async, cancellationToken, canCancel).ConfigureAwait(false);
            if (end.Verdict == Verdict.Granted || isLast)
            {
                return end;
            }

            if (cancellationToken.IsCancellationRequested)
            {
                throw Refusals.Cancelled(conversation.Key, null, cancellationToken);
            }

            if (!conversation.IsOpen)
            {
                throw Refusals.Broken(conversation.Key, null);
            }
        }
    }

    // Asks once and judges the answer. After a failure it undoes what the server may have granted, and throws.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<Grant> AskAndJudge(
        Conversation conversation, LockRequest request, bool async, CancellationToken cancellationToken, bool canCancel = true)
    {
        // A try is not cancelled: it is short, and to interrupt it would cost another question or the caller's transaction.
        var token = request.Try || !canCancel ? CancellationToken.None : cancellationToken;
        var answer = await conversation.AskToAcquire(request, async, token).ConfigureAwait(false);
        var (isCancelled, isOpen) = (cancellationToken.IsCancellationRequested, conversation.IsOpen);
        var isSessionEnded = false;
        var verdict = Judging.Judge(answer, request, isCancelled, isOpen);
        switch (verdict)
        {
            case Verdict.Granted or Verdict.AlreadyHeld or Verdict.HeldElsewhere:
                return new Grant(verdict, answer.Reply);
            case Verdict.NotSent:
                throw Refusals.NotSent(conversation.Key, answer.Error!, "The lock is not acquired.");
            case Verdict.TransactionFailed:
                Undoing.ThrowIfUnknownTransaction(conversation, answer.Error);
                break;
            case Verdict.MayBeGranted:
                var tried = request with { Timeout = TimeSpan.Zero };
                var again = await conversation.AskToAcquire(tried, async, CancellationToken.None).ConfigureAwait(false);
                if (again is { Error: null, Outcome: LockOutcome.Acquired })
                {
                    return new Grant(Verdict.Granted, again.Reply);
                }

                if (again is { Error: null, Outcome: LockOutcome.NotAcquired })
                {
                    verdict = Judging.OfFailure(answer, isCancelled, isOpen);
                    break;
                }

                // The second question has failed, too: the server had not answered the first, and the transaction has failed; or the cancel
                // came late and hit the second. The ordinary undo decides.
                goto default;
            case Verdict.Untrusted:
                break;
            case Verdict.Silent:
                isSessionEnded = true;
                verdict = isCancelled ? Verdict.Cancelled : verdict;
                break;
            default:
                isSessionEnded = await Undoing.Undo(conversation, request, answer, isCancelled, async).ConfigureAwait(false);
                verdict = Judging.OfFailure(answer, isCancelled, isOpen);
                break;
        }

        switch (verdict)
        {
            case Verdict.Cancelled:
                throw Refusals.Cancelled(conversation.Key, answer.Error, cancellationToken, isSessionEnded);
            case Verdict.Silent:
                throw Refusals.Silent(conversation.Key, answer.Error);
            case Verdict.Failed when conversation.Dialect.IsSessionLimit(answer.Codes):
                throw Refusals.SessionEndedByLimit($"lock '{conversation.Key}'", answer.Error);
            case Verdict.Failed when conversation.Dialect.Explain(request, answer.Codes) is { } words:
                throw Refusals.Explained(conversation.Key, words, answer.Error);
            case var _ when isSessionEnded:
                throw Refusals.SessionEnded(conversation.Key, answer.Error);
            case Verdict.TimedOut:
                return new Grant(verdict);
            case Verdict.Deadlocked:
                throw Refusals.Deadlock(conversation.Key, conversation.Session.Held(), answer.Error);
            case Verdict.EndedByServer:
                var holders = await Holders.TryAsk(conversation, async).ConfigureAwait(false);
                throw Refusals.EndedByServer(conversation.Key, holders, answer.Error);
            case Verdict.Broken:
                throw Refusals.Broken(conversation.Key, answer.Error);
            case Verdict.NotAnswered:
                throw Refusals.NotAnswered(conversation.Key, conversation.Dialect);
            default:
                ExceptionDispatchInfo.Throw(answer.Error!);
                return default;
        }
    }

    private static Hold? ToHold(Conversation conversation, Grant grant)
    {
        if (grant.Verdict != Verdict.Granted)
        {
            return null;
        }

        var options = conversation.Options;
        var hold = new Hold(
            conversation.Identity,
            conversation.Key,
            options,
            conversation.Driver,
            Telemetry.HearsHolds ? conversation.Connection.Database : null,
            options.Scope == LockScope.Transaction ? conversation.Transaction : null,
            conversation.Enlisted,
            grant.Reply)
        {
            AfterWait = grant.Reply.HasWaited && !conversation.HasOwnConnection,
        };
        conversation.Session.Add(hold);
        return hold;
    }

    private static bool AreOfOneTransaction(Hold[] holds) =>
        holds[0].TransactionId is not 0 and var transactionId && Array.TrueForAll(holds, hold => hold.TransactionId == transactionId);

    /// <summary>How an acquire has ended that did not throw.</summary>
    /// <param name="Verdict">Granted, already held, held elsewhere or timed out.</param>
    /// <param name="Reply">What the answer says, where one was given.</param>
    private readonly record struct Grant(Verdict Verdict, LockReply Reply = default);
}
