using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using Microsoft.Extensions.Logging;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>
/// What a <see cref="Lock"/> holds: it acquires, confirms and releases the lock, and notes its loss. It serves one call at a time.
/// </summary>
internal class Holding(Conversation conversation)
{
    private Hold? _hold;

    // How many of the acquires that the hold counts were made by this lock. Re-entrant locks of one connection share a hold.
    private int _count;
    private int _inUse;
    private long _granted;
    private bool _isSinceTold;

    public Conversation Conversation => conversation;

    protected LockState State { get; set; }

    /// <summary>Gets or sets whether a transaction was given to the lock since its last acquire.</summary>
    public bool HasNewTransaction { get; set; }

    public virtual bool IsHeld => _hold is { } hold && _count > 0 && hold.Stands;

    /// <summary>Gets whether the lock is held with session scope: until it is released or its session ends.</summary>
    public bool IsHeldForSession => IsHeld && conversation.Options.Scope == LockScope.Session;

    /// <inheritdoc cref="Lock.Lost"/>
    public virtual CancellationToken Lost => _hold?.Lost ?? CancellationToken.None;

    public virtual bool IsLost => _hold is { IsLost: true };

    /// <inheritdoc cref="Lock.FencingToken"/>
    public virtual long? FencingToken => _hold is { FencingToken: not 0 and var token } ? token : null;

    public virtual int? Slot => null;

    public ref TrustWindow Trust => ref conversation.Trust;

    protected LockKey Key => conversation.Key;

    protected ILogger Logger => conversation.Logger;

    /// <summary>Counts the lock as lost, because the server has not confirmed it for longer than its last answer is trusted.</summary>
    public void Distrust()
    {
        if (_hold is { Stands: true } hold)
        {
            NoteLoss(hold, null);
            conversation.GiveUp();
        }
    }

    /// <summary>Asks the server whether this session still holds the lock, and counts the lock as lost if it does not.</summary>
    /// <param name="async">Whether it asks asynchronously.</param>
    /// <param name="orThrow">Whether the error of a server that lives and cannot say is thrown; else it is taken for a yes.</param>
    /// <param name="cancellationToken">Cancels the question.</param>
    public virtual async ValueTask<bool> Confirm(bool async, bool orThrow = false, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            if (!IsHeld || _hold is not { } hold)
            {
                return false;
            }

            conversation.Limit = Limit.Of(TrustWindow.Length, cancellationToken);
            if (conversation.HasOwnConnection
                && await Keeping.Keep(conversation, async, CancellationToken.None).ConfigureAwait(false) is { } end)
            {
                NoteLoss(hold, end);
                return false;
            }

            // The first question also tells the server since when the lock is held, which so costs no round trip of its own. It is sent
            // once only: a server that refuses it still answers the questions after it.
            var since = _isSinceTold ? null : conversation.Settings?.TellSince(Stopwatch.GetElapsedTime(_granted));
            _isSinceTold = true;
            var (isHeld, error) = await Keeping.Ask(conversation, hold, since, async, cancellationToken).ConfigureAwait(false);
            if (isHeld != false)
            {
                return isHeld is null && orThrow ? throw Refusals.CannotSay(Key, error!, cancellationToken) : true;
            }

            if (error is null && hold.Options.Scope == LockScope.Transaction)
            {
                // It has ended with its transaction, or with a savepoint.
                hold.Release();
                return false;
            }

            NoteLoss(hold, error);
            if (error is null)
            {
                await Undoing.LetGoOfTheRest(conversation, hold, async).ConfigureAwait(false);
            }

            return false;
        }
        finally
        {
            conversation.Limit = default;
            Exit();
        }
    }

    /// <summary>Lets go after a body has failed in a savepoint that was rolled back. It throws nothing over the body's exception.</summary>
    public async ValueTask LetGoAfterError(bool async)
    {
        Enter();
        try
        {
            if (_hold is { Options.Scope: LockScope.Transaction } hold)
            {
                // A lock of transaction scope has ended with the savepoint, unless it was acquired before the savepoint.
                await Acquiring.ForgetEnded(conversation, new LockRequest(Key), [hold], async).ConfigureAwait(false);
                return;
            }

            NoteError();
            await ReleaseOrEndSession(async).ConfigureAwait(false);
        }
        finally
        {
            Exit();
        }
    }

    /// <inheritdoc cref="Lock.Dispose()"/>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public virtual async ValueTask Dispose(bool async)
    {
        if (State == LockState.Disposed)
        {
            return;
        }

        Enter();
        try
        {
            if (IsHeldForSession)
            {
                // A using statement may be ending because of the caller's own exception, which an exception from here would hide.
                NoteError();
                _hold!.Count -= _count - 1;
                _count = 1;
                await ReleaseOrEndSession(async).ConfigureAwait(false);
            }
        }
        finally
        {
            State = LockState.Disposed;
            Exit();
        }
    }

    /// <inheritdoc cref="Lock.Acquire(TimeSpan)"/>
    public ValueTask<bool> Acquire(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        if (timeout < TimeSpan.Zero && timeout != Timeout.InfiniteTimeSpan)
        {
            // A wrong timeout throws from the call itself, not from its task, and telemetry hears of it.
            RefuseAndTell(timeout);
        }

        return Telemetry.HearsAcquires
            ? AcquireAndTell(timeout, async, cancellationToken)
            : AcquireOnConnection(timeout, Limit.Of(timeout, cancellationToken), async, cancellationToken);
    }

    private void RefuseAndTell(TimeSpan timeout) => Completed(Tell(() =>
    {
        Admission.CheckTimeout(timeout, Key, TimeSpan.MaxValue, dialect: null);
        return new ValueTask<bool>(false);
    }));

    private ValueTask<bool> AcquireAndTell(TimeSpan timeout, bool async, CancellationToken cancellationToken) =>
        Tell(() => AcquireOnConnection(timeout, Limit.Of(timeout, cancellationToken), async, cancellationToken));

    private ValueTask<bool> Tell(Func<ValueTask<bool>> acquire) =>
        Telemetry.Tell(
            acquire, static acquired => acquired, () => conversation.Where, Key, conversation.Options);

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    protected virtual async ValueTask<bool> AcquireOnConnection(
        TimeSpan timeout, Limit limit, bool async, CancellationToken cancellationToken)
    {
        if (State == LockState.Disposed)
        {
            throw Refusals.Disposed();
        }

        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            conversation.Limit = limit;
            var request = Admission.Admit(conversation, timeout);
            Admission.CheckDatabase(conversation, IsHeld ? _hold!.Identity.Database : null);
            var hold = await Ask(request, async, cancellationToken).ConfigureAwait(false);
            if (hold is null)
            {
                return false;
            }

            _count = _hold == hold ? _count + 1 : 1;
            (_hold, State, HasNewTransaction) = (hold, LockState.Held, false);
            _granted = conversation.HasOwnConnection || conversation.Settings is not null ? Stopwatch.GetTimestamp() : 0;
            if (!conversation.IsOpen)
            {
                // The connection has closed after the grant, before anybody knew of the hold.
                conversation.Session.End();
                throw Refusals.Lost(Key, null);
            }

            return true;
        }
        finally
        {
            conversation.Limit = default;
            Exit();
        }
    }

    protected virtual ValueTask<Hold?> Ask(LockRequest request, bool async, CancellationToken cancellationToken) =>
        Acquiring.Acquire(conversation, request, HasNewTransaction, async, cancellationToken);

    public async ValueTask HandleError(Exception error, bool async)
    {
        ArgumentNullException.ThrowIfNull(error);
        NoteError();
        if (conversation.Options.RollbackOnError && conversation.Transaction is { } transaction)
        {
            await Releasing.RollBack(conversation, transaction, async).ConfigureAwait(false);
        }
    }

    /// <inheritdoc cref="Lock.Release()"/>
    public ValueTask<bool> Release(bool async)
    {
        Enter();
        return ReleaseAndExit(async);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<bool> ReleaseAndExit(bool async)
    {
        try
        {
            return await ReleaseOnConnection(async).ConfigureAwait(false);
        }
        finally
        {
            Exit();
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    protected virtual async ValueTask<bool> ReleaseOnConnection(bool async)
    {
        if (_hold is not { } hold || _count == 0)
        {
            return false;
        }

        if (hold.IsLost || hold.Options.Scope == LockScope.Transaction)
        {
            return hold.IsLost && Lose(hold, null);
        }

        if (conversation.IsOpen && hold.Count > 1)
        {
            hold.Count--;
            _count--;
            return true;
        }

        var isInTransaction = conversation.Transaction is not null;
        conversation.Limit = conversation.HasOwnConnection ? Limit.Of(TrustWindow.Length, CancellationToken.None) : default;
        var (verdict, error) = await Releasing.Release(conversation, hold, async).ConfigureAwait(false);
        conversation.Limit = default;
        if (verdict is ReleaseVerdict.Released or ReleaseVerdict.KeptByTransaction)
        {
            (_count, State) = (0, LockState.Free);
            hold.Release();
        }

        switch (verdict)
        {
            case ReleaseVerdict.Released:
                Log.Released(Logger, Key);
                if (isInTransaction && conversation.Transaction is not null)
                {
                    conversation.WarnOfCommit();
                }

                return true;
            case ReleaseVerdict.KeptByTransaction:
                Log.KeptByTransaction(Logger, Key);
                return false;
            case ReleaseVerdict.Lost:
                return Lose(hold, error);
            default:
                return await ReleaseRefused(hold, error!, async).ConfigureAwait(false);
        }
    }

    // After HandleError nobody will call release a second time, so the session is ended. Only with LockOptions.RollbackOnError off the
    // caller means to roll the transaction back first, and to release then.
    private async ValueTask<bool> ReleaseRefused(Hold hold, Exception error, bool async)
    {
        if (State != LockState.HeldAfterError)
        {
            ExceptionDispatchInfo.Throw(error);
        }

        if (conversation.Transaction is not null && !conversation.Options.RollbackOnError)
        {
            Log.ReleaseFailed(Logger, Key, error);
            return false;
        }

        await conversation.EndSession(error, async).ConfigureAwait(false);
        return Lose(hold, error);
    }

    /// <summary>Lets go of the lock, or ends the session if that fails, because nobody would release the lock later.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask ReleaseOrEndSession(bool async)
    {
        if (!await ReleaseOnConnection(async).ConfigureAwait(false) && IsHeldForSession && conversation.IsOpen)
        {
            await conversation.EndSession(null, async).ConfigureAwait(false);
        }
    }

    // After HandleError the caller's own exception is on its way, so that this returns false instead of throwing.
    private bool Lose(Hold hold, Exception? error)
    {
        var isAfterError = State == LockState.HeldAfterError;
        (_count, State) = (0, LockState.Free);
        NoteLoss(hold, error);
        return isAfterError ? false : throw Loss(error);
    }

    private void NoteLoss(Hold hold, Exception? error)
    {
        // Distrust has noted the loss and given up the question, which fails with a SilenceException: no second loss is logged.
        if (error is not SilenceException || !hold.IsLost)
        {
            Log.Lost(Logger, Key, error);
        }

        hold.Lose();
    }

    public virtual ValueTask<bool> Renew(bool async, CancellationToken cancellationToken) => throw LeaseRefusals.NothingToRenew(Key);

    public virtual LockLostException Loss(Exception? error) => Refusals.Lost(Key, error);

    private void NoteError() => State = State == LockState.Held ? LockState.HeldAfterError : State;

    /// <inheritdoc cref="Lock.GetHolders()"/>
    public async ValueTask<LockHolders> GetHolders(bool async, CancellationToken cancellationToken)
    {
        if (State == LockState.Disposed)
        {
            throw Refusals.Disposed();
        }

        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            return await Holders.Ask(conversation, async, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            Exit();
        }
    }

    protected void Enter()
    {
        if (Interlocked.Exchange(ref _inUse, 1) != 0)
        {
            throw Refusals.InUse(Key);
        }
    }

    protected void Exit() => Volatile.Write(ref _inUse, 0);
}
