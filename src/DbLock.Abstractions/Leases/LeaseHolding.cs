using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>
/// What a <see cref="Lock"/> of lease scope holds. Everything goes over the caller's connection, and only while he calls: so he renews it.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "The timer ends with the lease.")]
internal sealed class LeaseHolding(Conversation conversation) : Holding(conversation)
{
    private readonly LeaseClock _clock = new();
    private LeaseHold? _hold;

    // What may be ours at the server although nobody trusts it: its answer was lost, or it could not be let go.
    private LeaseRow[] _leftover = [];
    private ITimer? _end;

    private LeaseTable Table => Conversation.Options.LeaseTable;

    private LockDialect Dialect => Conversation.Dialect;

    /// <inheritdoc />
    public override bool IsHeld => _hold?.IsHeld(Stopwatch.GetTimestamp()) == true;

    /// <inheritdoc />
    public override bool IsLost => !IsHeld && _hold?.IsLost == true;

    /// <inheritdoc />
    public override CancellationToken Lost => _hold?.Lost ?? CancellationToken.None;

    /// <inheritdoc />
    public override long? FencingToken => _hold?.Token;

    /// <inheritdoc />
    public override int? Slot => _hold?.Slot;

    private bool IsAfterError => State == LockState.HeldAfterError;

    /// <inheritdoc />
    public override LockLostException Loss(Exception? error) =>
        LeaseRefusals.NotRenewed(Key, LeaseHold.TrustOf(Conversation.Options, Dialect));

    /// <inheritdoc />
    public override async ValueTask<bool> Renew(bool async, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            if (_hold is not { } hold || !IsHeld)
            {
                return IsLost ? throw Loss(null) : false;
            }

            Admission.CheckOpen(Conversation);
            if (Conversation.Transaction is not null)
            {
                throw LeaseRefusals.InTransaction(Key, "renewed");
            }

            Conversation.Limit = Limit.Of(TrustWindow.Length, cancellationToken);
            var answer = await Send((leases, table) => leases.Renew(table, hold.Rows), "renewed", async).ConfigureAwait(false);
            if (answer.Reply is not { } reply)
            {
                cancellationToken.ThrowIfCancellationRequested();
                throw answer.IsNotSent
                    ? Refusals.NotSent(Key, answer.Error!, "The lease is held as before: renew it again.")
                    : LeaseRefusals.CannotRenew(Key, Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), hold.TrustEnds), answer.Error!);
            }

            if (reply.Rows.Count < hold.Rows.Length)
            {
                hold.Lose(null);
            }

            hold.Confirm(answer.Asked, Stopwatch.GetTimestamp());
            return IsHeld ? true : throw Loss(null);
        }
        finally
        {
            Leave();
        }
    }

    /// <inheritdoc />
    public override async ValueTask<bool> Confirm(bool async, bool orThrow = false, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            if (_hold is not { } hold || !IsHeld)
            {
                return false;
            }

            Admission.CheckOpen(Conversation);
            Conversation.Limit = Limit.Of(TrustWindow.Length, cancellationToken);
            var answer = await Conversation.Ask(Leasing.Of(Dialect).Look(Table, hold.Rows), async, cancellationToken)
                .ConfigureAwait(false);
            if (answer.Error is { } error)
            {
                throw answer.IsNotSent
                    ? Refusals.NotSent(Key, error, "The lease is held as before.") : Refusals.CannotSay(Key, error, cancellationToken);
            }

            if (LeaseHolders.ReadAll(answer.Value).Count(lease => !lease.IsReleased && lease.Token == hold.Token) < hold.Rows.Length)
            {
                hold.Lose(null);
            }

            return IsHeld;
        }
        finally
        {
            Leave();
        }
    }

    /// <inheritdoc />
    public override async ValueTask Dispose(bool async)
    {
        if (State == LockState.Disposed)
        {
            return;
        }

        Enter();
        try
        {
            // A using statement may be ending because of the caller's own exception, which an exception from here would hide.
            State = LockState.HeldAfterError;
            await ReleaseOnConnection(async).ConfigureAwait(false);
        }
        finally
        {
            State = LockState.Disposed;
            Leave();
        }
    }

    /// <inheritdoc />
    protected override async ValueTask<bool> AcquireOnConnection(
        TimeSpan timeout, Limit limit, bool async, CancellationToken cancellationToken)
    {
        if (State == LockState.Disposed)
        {
            throw Refusals.Disposed();
        }

        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        var (asking, hold) = (new Asking(this), default(LeaseHold));
        try
        {
            Conversation.Limit = limit;
            Admission.AdmitLease(Conversation, timeout);
            await LetGoOfLeftover(async).ConfigureAwait(false);
            if (IsHeld || Conversation.Session.HasLease(Table, Leasing.Rows(Leasing.Of(Dialect), Key, asking.Options, ""), Key.SlotCount))
            {
                return timeout == TimeSpan.Zero ? false : throw Refusals.WouldWaitForItself(Key, "a lease counts one acquire");
            }

            hold = await asking.AskUntilOver(timeout, limit, async).ConfigureAwait(false);
            if (hold is null)
            {
                Log.NotAcquired(Logger, Key);
                return false;
            }

            (_hold, State, HasNewTransaction) = (hold, LockState.Held, false);
            Conversation.Session.Add(hold);
            EndInTime(hold);
            Log.Acquired(Logger, Key);
            return true;
        }
        catch (OperationCanceledException e) when (cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(Key, e, cancellationToken);
        }
        finally
        {
            if (hold is null && asking.IsInDoubt)
            {
                // What was given to nobody has had no work under it, so that it need not stay for its least time.
                _leftover = Leasing.AllRows(Leasing.Of(Dialect), Key, asking.Options with { AtLeast = TimeSpan.Zero }, asking.Owner);
                Conversation.Limit = Limit.Of(Limit.Way / 4, CancellationToken.None);
                await LetGoOfLeftover(async).ConfigureAwait(false);
            }

            Leave();
        }
    }

    /// <inheritdoc />
    protected override async ValueTask<bool> ReleaseOnConnection(bool async)
    {
        Conversation.Limit = Limit.Of(TrustWindow.Length, CancellationToken.None);
        var isAfterError = IsAfterError;
        if (_hold is not { } hold || !IsHeld)
        {
            State = LockState.Free;
            return _hold?.TakeLoss() == true
                ? isAfterError ? false : throw Loss(null) : await LetGoOfLeftover(async).ConfigureAwait(false);
        }

        if (Conversation.Transaction is not null && !isAfterError)
        {
            throw LeaseRefusals.InTransaction(Key, "released");
        }

        var answer = default(LeaseAnswer);
        if (Conversation.IsOpen && (Conversation.Transaction is null || Conversation.Options.RollbackOnError))
        {
            // After an error the transaction was rolled back, although not every provider tells (MySql.Data).
            answer = await Send((leases, table) => leases.Release(table, hold.Rows), null, async).ConfigureAwait(false);
            if (answer.IsNotSent && Conversation.IsOpen && !isAfterError)
            {
                throw Refusals.NotSent(Key, answer.Error!, "The lease is still held: release it again.");
            }

            if (answer is { Error: { } error, IsUnknown: false } && !isAfterError)
            {
                throw LeaseRefusals.NotReleased(Key, error);
            }
        }

        State = LockState.Free;
        hold.Release();
        _end?.Dispose();
        if (answer.Reply is not { } reply)
        {
            // It was trusted until now, so that nobody else had it.
            _leftover = hold.Rows;
            Log.LeaseNotLetGo(Logger, Key, answer.Error);
            return false;
        }

        if (reply.Rows.Count < hold.Rows.Length)
        {
            hold.LoseAtRelease();
            hold.TakeLoss();
            return isAfterError ? false : throw Loss(null);
        }

        Log.Released(Logger, Key);
        return true;
    }

    // Sends a statement. What it wrote must be committed, unless nothing is said of what was to be done.
    private async ValueTask<LeaseAnswer> Send(Func<LeaseDialect, LeaseTable, LockStatement> say, string? what, bool async)
    {
        var leases = Leasing.Of(Dialect);
        LeaseAnswer answer;
        try
        {
            answer = await LeaseServer.Ask(Conversation, leases, Table, say, _clock, async).ConfigureAwait(false);
        }
        catch (LockException e) when (what is not null)
        {
            throw LeaseRefusals.Uncommitted(Key, what, e);
        }

        var question = leases.Committed(Table);
        if (what is null || answer.Reply is not { Rows.Count: > 0 } || question.Commands.Length == 0)
        {
            return answer;
        }

        var committed = await Conversation.Ask(question with { Limit = TrustWindow.Length }, async).ConfigureAwait(false);
        if (committed.Error is { } error
            && (!Conversation.IsOpen || committed.Outcome == LockOutcome.ConnectionLost
                || leases.Read(committed.Codes) == LeaseTrouble.Unknown))
        {
            return new(null, answer.Asked, error, LeaseTrouble.Unknown);
        }

        return committed is { Error: null, Value: not LeaseReply.Uncommitted }
            ? answer : throw LeaseRefusals.Uncommitted(Key, what, committed.Error);
    }

    /// <returns>Whether there was something, and it is let go.</returns>
    private async ValueTask<bool> LetGoOfLeftover(bool async)
    {
        if (_leftover.Length == 0 || !Conversation.IsOpen || Conversation.Transaction is not null)
        {
            return false;
        }

        var answer = await Send((leases, table) => leases.Release(table, _leftover), null, async).ConfigureAwait(false);
        _leftover = answer.Reply is null ? _leftover : [];
        return answer.Reply is { Rows.Count: > 0 };
    }

    // Lost fires when the time is over, although nobody asks.
    private void EndInTime(LeaseHold hold)
    {
        _end?.Dispose();
        using (ExecutionContext.SuppressFlow())
        {
            _end = TimeProvider.System.CreateTimer(
                static state => ((LeaseHolding)state!).EndOrWait(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        EndOrWait();
    }

    private void EndOrWait()
    {
        if (IsHeld)
        {
            var left = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), _hold!.TrustEnds) + TimeSpan.FromMilliseconds(1);
            _end!.Change(left > TimeSpan.Zero ? left : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
        }
    }

    private void Leave()
    {
        Conversation.Limit = default;
        Exit();
    }

    private sealed class Asking(LeaseHolding holding) : LeaseAsking(holding.Key, holding.Conversation.Options)
    {
        protected override LeaseTable Table => holding.Table;

        protected override string? Database => holding.Conversation.Where.Database;

        protected override LockDialect? Dialect => holding.Dialect;

        protected override async ValueTask<LeaseAnswer> Ask(
            Func<LeaseDialect, LeaseTable, LockStatement> say, Limit limit, bool async)
        {
            var answer = await holding.Send(say, "acquired", async).ConfigureAwait(false);
            if (answer.IsNotSent && holding.Conversation.IsOpen)
            {
                IsInDoubt = false;
                throw Refusals.NotSent(Key, answer.Error!, "The lease is not acquired.");
            }

            return answer;
        }
    }
}
