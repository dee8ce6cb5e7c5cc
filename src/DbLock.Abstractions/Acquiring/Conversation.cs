using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// The conversation of one lock with the server, over one connection. Everything that a <see cref="Lock"/> sends goes through
/// <see cref="Ask"/>.
/// </summary>
internal sealed class Conversation(DbConnection connection, LockInterface lockInterface, LockKey key, LockOptions options)
{
    /// <summary>
    /// How often a statement is sent again that a cancel has hit although it must not be cancelled. The server may notice a cancel late,
    /// when the next statement is running, and somebody else may cancel any statement.
    /// </summary>
    public const int CancelAttempts = 10;

    /// <summary>Until when the last answer is trusted which said that the lock is held.</summary>
    public TrustWindow Trust;

    private (LockRequest Request, LockStatement Statement)? _acquire;
    private (LockRequest Request, LockStatement Statement)? _release;
    private LockIdentity? _identity;
    private string? _comment;
    private LockDialect? _dialect;
    private Patience? _patience;
    private bool _hasWarnedOfCommit;
    private bool _hasWarnedOfSnapshot;

    public DbConnection Connection { get; } = connection;

    public LockInterface Interface { get; } = lockInterface;

    /// <summary>Gets or sets the key that is asked for: of a key with slots, the key of one slot after the other.</summary>
    public LockKey Key
    {
        get;
        set => (field, _identity, _comment) = (value, null, null);
    } = key;

    public LockOptions Options { get; } = options;

    public ILogger Logger { get; } = QuietLogger.Of(options.Logger);

    /// <summary>Gets or sets whether the connection is the lock's own, opened outside of any TransactionScope.</summary>
    public bool HasOwnConnection { get; set; }

    /// <summary>Gets or sets what is told of the program that acquires, in the comment after the lock's name; null for nothing.</summary>
    public string? Holder { get; set; }

    /// <summary>Gets the comment that shows the lock's name at the server; null where it is not to be shown.</summary>
    public string? Comment =>
        _comment ??= Options.ShowName ? ToldName.Comment(Key) + (Holder is null ? "" : ToldName.Comment(Holder)) : null;

    /// <summary>Gets or sets the transaction that the caller has given; it may be completed.</summary>
    public DbTransaction? GivenTransaction { get; set; }

    /// <summary>Gets or sets the System.Transactions transaction in which the connection was found to be enlisted; null for none.</summary>
    public System.Transactions.Transaction? Enlisted { get; set; }

    /// <summary>
    /// Gets what is known of the connection. It is looked up anew at each acquire, because a wrapper may have another connection inside by
    /// then.
    /// </summary>
    public Session Session { get; private set; } = Session.Of(connection);

    public ILockDriver Driver => Interface.Driver;

    public LockDialect Dialect => _dialect ??= Options.Dialect ?? Session.Dialect(Connection, Interface, Transaction);

    /// <summary>Gets what the server knows the lock by.</summary>
    public LockIdentity Identity
    {
        get
        {
            var (dialect, database) = (Dialect, Dialect.IsPerDatabase ? Connection.Database : null);
            return _identity is { } identity && identity.Dialect == dialect && identity.Database == database
                ? identity : _identity = new LockIdentity(dialect, Key, database);
        }
    }

    /// <summary>Gets the database (null where ODBC would wait for an owed answer) and the dialect (null at first), for telemetry.</summary>
    public (string? Database, LockDialect? Dialect) Where => (IsAbandoned ? null : Connection.Database, _identity?.Dialect ?? _dialect);

    /// <summary>Gets the caller's transaction, if it is open.</summary>
    public DbTransaction? Transaction => GivenTransaction is { } transaction && transaction.IsOpen() ? transaction : null;

    public bool IsInTransaction => Transaction is not null || Enlisted?.IsOpen() == true;

    /// <summary>Gets whether a statement can be sent: the connection is open, and owes no answer for which nobody waits any more.</summary>
    public bool IsOpen => Connection.State == ConnectionState.Open && _patience is not { HasEnded: true };

    /// <summary>Gets or sets the time in which the present call must end.</summary>
    public Limit Limit { get; set; }

    public PhysicalSession PhysicalSession => Session.Current(Connection, Driver);

    /// <summary>Looks up again which connection a wrapper has inside, and which dialect its server speaks.</summary>
    public void LookAtSession() => (Session, _dialect) = (Session.Of(Connection), null);

    /// <summary>Sends a statement. An exception is returned as a part of the answer.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<Answer> Ask(LockStatement statement, bool async, CancellationToken cancellationToken = default)
    {
        if (_patience is { HasEnded: true })
        {
            return ToAnswer(new SilenceException());
        }

        try
        {
            // If the provider's blocking call cannot be ended from another thread, its command timeout is the limit.
            var limit = Limit.For(ref statement, Driver, Connection);
            return new Answer(limit.IsSet && (async || Driver.CanAbort(Connection))
                ? await ExecuteWithinLimit(limit, statement, async, cancellationToken).ConfigureAwait(false)
                : await Driver.Execute(Connection, Transaction, statement, async, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception e)
        {
            return ToAnswer(e);
        }
    }

    /// <summary>Sends a statement that acquires, and reads what its answer means.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<Answer> AskToAcquire(LockRequest request, bool async, CancellationToken cancellationToken)
    {
        var session = PhysicalSession;
        Trust.Ask(Stopwatch.GetTimestamp());
        var answer = await Ask(AcquireStatement(request), async, cancellationToken).ConfigureAwait(false);
        if (answer.Error is not null)
        {
            Trust.Fail();
            return answer;
        }

        try
        {
            // This is right for a "no", too: nothing is held then that could be trusted wrongly.
            Trust.Confirm();
            var reply = Dialect.Read(request, answer.Value);
            session.IsDirect |= reply.IsDirect;
            return answer with { Reply = reply };
        }
        catch (LockException e)
        {
            // The dialect says that the server's locks cannot be trusted. Nothing was taken.
            return answer with { Error = e, Reply = new(LockOutcome.Refused) };
        }
    }

    /// <summary>Gets or sets the settings that were made in the lock's own session; null while there are none to put back.</summary>
    public SessionSettings? Settings { get; set; }

    /// <summary>Gets or sets whether the settings were asked for, whatever came of that.</summary>
    public bool HasAskedForSettings { get; set; }

    /// <summary>Sends a release, and with it what puts back the session's settings.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<Answer> AskToRelease(LockRequest request, bool async)
    {
        // The statement is kept, because a lock is mostly acquired and released many times.
        if (_release is not { } release || release.Request != request)
        {
            _release = release = (request, Dialect.Release(request) with { MayPrepare = MayPrepare(request) });
        }

        if (Settings is not { } settings)
        {
            return await Ask(release.Statement, async).ConfigureAwait(false);
        }

        var both = new LockStatement([.. release.Statement.Commands, .. settings.Undo.Commands]) { Limit = TrustWindow.Length };
        var answer = await Ask(both, async).ConfigureAwait(false);
        if (answer.Error is null)
        {
            Settings = null;
            return answer;
        }

        if (!IsOpen || answer.Outcome == LockOutcome.ConnectionLost)
        {
            return answer;
        }

        // Settings that cannot be put back must not keep the lock. If the failed statement had let go of it already, the second release
        // answers that it is not held, which is a success.
        answer = await Ask(release.Statement, async).ConfigureAwait(false);
        return answer is { Error: null, Number: 0 } ? new Answer(1L) : answer;
    }

    /// <summary>Asks a question, and asks it again when it was hit by a cancel that was meant for the statement before.</summary>
    public async ValueTask<Answer> AskDespiteCancels(LockStatement question, bool async)
    {
        var answer = await Ask(question, async).ConfigureAwait(false);
        for (var attempt = 1; attempt < CancelAttempts && answer is { Error: not null, Outcome: LockOutcome.Cancelled }; attempt++)
        {
            answer = await Ask(question, async).ConfigureAwait(false);
        }

        return answer;
    }

    /// <summary>
    /// Ends the session, because it is not known what it holds, or because it does not let go of something. Its transaction and its other
    /// locks end with it.
    /// </summary>
    /// <param name="reason">What went wrong.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <param name="isQuestion">Whether the reason is the error of a question about what the session holds.</param>
    public async ValueTask EndSession(Exception? reason, bool async, bool isQuestion = false)
    {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html: insufficient_privilege
        if (isQuestion && reason is not null && Driver.Read(reason).SqlState == "42501")
        {
            Log.MayNotAsk(Logger, Key, reason);
        }
        else
        {
            Log.SessionEnded(Logger, Key, reason);
        }

        // This comes before the connection is closed: otherwise the log would say that the program has closed it while it held locks.
        Session.End();
        if (IsOpen && Dialect.EndSession is { } statement)
        {
            // The session ends before it can answer; if it does not, the closing of the connection ends it. Where the program is closing it
            // at this moment, nothing can be sent, and its close would wait for ever for an answer that nobody reads.
            if ((await Ask(statement, async).ConfigureAwait(false)).IsNotSent && IsOpen)
            {
                Driver.Abort(Connection);
            }
        }

        Discard();
    }

    /// <summary>Closes a connection whose session has ended. If the connection owes an answer, it is closed when that has come.</summary>
    public void CloseAfterEnd()
    {
        Session.End();
        Discard();
    }

    /// <summary>Gets whether the server or the provider has reported that the session is gone.</summary>
    public bool IsSessionDead { get; private set; }

    /// <summary>Gets whether the connection was left behind because it owes an answer. It is closed when the answer has come.</summary>
    public bool IsAbandoned { get; private set; }

    /// <summary>Stops waiting for an answer that is owed, and leaves the connection behind.</summary>
    public void GiveUp() => _patience?.GiveUp();

    /// <summary>Logs, once, that a lock was released inside an open transaction.</summary>
    public void WarnOfCommit()
    {
        if (!_hasWarnedOfCommit)
        {
            _hasWarnedOfCommit = true;
            Log.ReleasedBeforeCommit(Logger, Key);
        }
    }

    /// <summary>Logs, once, that the transaction's snapshot may be older than the grant.</summary>
    public void WarnOfSnapshot(System.Data.IsolationLevel level)
    {
        if (!_hasWarnedOfSnapshot)
        {
            _hasWarnedOfSnapshot = true;
            Log.OldSnapshot(Logger, Key, level);
        }
    }

    private void Discard()
    {
        if (!IsAbandoned)
        {
            Driver.Discard(Connection);
        }
    }

    private Answer ToAnswer(Exception error)
    {
        if (error is SilenceException)
        {
            return new Answer(null, error, default, new(LockOutcome.ConnectionLost));
        }

        var codes = Driver.Read(error);
        var outcome = Dialect.Read(codes);
        IsSessionDead |= outcome == LockOutcome.ConnectionLost;
        return new Answer(null, error, codes, new(outcome));
    }

    private ValueTask<object?> ExecuteWithinLimit(Limit limit, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var patience = _patience ??= new Patience(Abandon, CloseAfterAnswer);
        if (async && limit.Token.CanBeCanceled)
        {
            return ExecuteCancellable(patience, limit, statement, cancellationToken.CanBeCanceled);
        }

        patience.Begin(limit);
        return async ? Await(patience, statement, cancellationToken) : ExecuteBlocking(patience, statement);
    }

    // A caller who cancels must not wait for the provider's own way to cancel, which may connect to a server that is silent. So the
    // provider is cancelled on another thread.
    private async ValueTask<object?> ExecuteCancellable(Patience patience, Limit limit, LockStatement statement, bool isCancelled)
    {
        using var cancel = new CancellationTokenSource();
        patience.Begin(limit);
        using var registration = limit.Token.UnsafeRegister(
            _ =>
            {
                patience.Cancel();
                cancel.CancelAsync();
            },
            null);
        var token = isCancelled ? cancel.Token : CancellationToken.None;
        return await Await(patience, statement, token).ConfigureAwait(false);
    }

    // A driver that throws before it goes on asynchronously (as ODBC's does for statements that do not wait) has given its answer.
    private ValueTask<object?> Await(Patience patience, LockStatement statement, CancellationToken cancellationToken)
    {
        try
        {
            return patience.Await(Driver.Execute(Connection, Transaction, statement, async: true, cancellationToken));
        }
        catch (Exception)
        {
            patience.TryFinish();
            throw;
        }
    }

    private ValueTask<object?> ExecuteBlocking(Patience patience, LockStatement statement)
    {
        try
        {
            var answer = Synchronously.Completed(Driver.Execute(Connection, Transaction, statement, async: false, CancellationToken.None));
            return patience.TryFinish() ? new(answer) : throw new SilenceException();
        }
        catch (Exception e) when (e is not SilenceException && !patience.TryFinish())
        {
            throw new SilenceException();
        }
    }

    // The connection cannot be closed while it owes an answer: either the answer comes, or the provider is made to give it up.
    private Task Abandon()
    {
        IsAbandoned = true;
        Session.End();
        Log.Silent(Logger, Key);
        return Abort();
    }

    // This runs on another thread, because a provider may wait here for its own cancel.
    private async Task Abort()
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        Driver.Abort(Connection);
    }

    private void CloseAfterAnswer()
    {
        try
        {
            Driver.Discard(Connection);
        }
        catch (Exception)
        {
            // A connection that cannot even be closed is left to the garbage collector.
        }
        finally
        {
            // The caller may open the connection again.
            (_patience, IsAbandoned) = (null, false);
        }
    }

    private LockStatement AcquireStatement(in LockRequest request)
    {
        if (_acquire is not { } acquire || acquire.Request != request)
        {
            _acquire = acquire = (request, Dialect.Acquire(request) with { MayPrepare = MayPrepare(request), Comment = Comment });
        }

        return acquire.Statement;
    }

    // Nothing is prepared inside a transaction: if somebody has deallocated the statement (DISCARD ALL, DEALLOCATE ALL), its use fails, and
    // the transaction with it.
    private static bool MayPrepare(in LockRequest request) => request.IsDirect && !request.InTransaction;
}
