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
    /// How often a statement is said again that a cancel hits: a cancel that the server notices late, or somebody else's, may hit what must
    /// not be cancelled.
    /// </summary>
    public const int CancelAttempts = 10;

    /// <summary>How long the last answer can be trusted that says that the lock is held.</summary>
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

    public LockKey Key { get; } = key;

    public LockOptions Options { get; } = options;

    public ILogger Logger { get; } = QuietLogger.Of(options.Logger);

    /// <summary>Gets or sets whether the connection is the lock's own, opened outside of any TransactionScope.</summary>
    public bool HasOwnConnection { get; set; }

    /// <summary>Gets or sets what is told of who acquires, beside the name, where that is told; null for nothing.</summary>
    public string? Holder { get; set; }

    /// <summary>Gets the comment that names the lock at the server; null where it is not to be named.</summary>
    public string? Comment =>
        _comment ??= Options.ShowName ? ToldName.Comment(Key) + (Holder is null ? "" : ToldName.Comment(Holder)) : null;

    /// <summary>Gets or sets the transaction that the caller has given; it may be completed.</summary>
    public DbTransaction? GivenTransaction { get; set; }

    /// <summary>Gets or sets the transaction of System.Transactions in which the connection was found enlisted; null for none.</summary>
    public System.Transactions.Transaction? Enlisted { get; set; }

    /// <summary>Gets what is known of the connection. A wrapper may have another connection inside than before.</summary>
    public Session Session { get; private set; } = Session.Of(connection);

    public ILockDriver Driver => Interface.Driver;

    public LockDialect Dialect => _dialect ??= Options.Dialect ?? Session.Dialect(Connection, Interface, Transaction);

    /// <summary>Gets what the server tells the lock from others by.</summary>
    public LockIdentity Identity =>
        _identity is { } identity && identity.Dialect == Dialect ? identity : _identity = new LockIdentity(Dialect, Key);

    /// <summary>Gets the name of the dialect that has been spoken, for telemetry; null before the first acquire.</summary>
    public LockDialect? Spoken => _identity?.Dialect;

    /// <summary>Gets the caller's transaction, if it is open.</summary>
    public DbTransaction? Transaction => GivenTransaction is { } transaction && transaction.IsOpen() ? transaction : null;

    public bool IsInTransaction => Transaction is not null || Enlisted?.IsOpen() == true;

    /// <summary>Gets whether something can be sent: the connection is open, and owes nothing that is not waited for any more.</summary>
    public bool IsOpen => Connection.State == ConnectionState.Open && _patience is not { HasEnded: true };

    /// <summary>Gets or sets until when the call may take that is under way.</summary>
    public Limit Limit { get; set; }

    public PhysicalSession PhysicalSession => Session.Current(Connection, Driver);

    /// <summary>Looks once more which connection a wrapper has inside, and what its server speaks.</summary>
    public void LookAtSession() => (Session, _dialect) = (Session.Of(Connection), null);

    /// <summary>Sends a statement. An error is a value.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<Answer> Ask(LockStatement statement, bool async, CancellationToken cancellationToken = default)
    {
        if (_patience is { HasEnded: true })
        {
            return ToAnswer(new SilenceException());
        }

        try
        {
            // A provider whose blocking call cannot be ended from beside has its own timeout.
            if (Limit.IsSet && (async || Driver.CanAbort(Connection)))
            {
                return new Answer(await ExecuteWithinLimit(statement, async, cancellationToken).ConfigureAwait(false));
            }

            return new Answer(await Driver.Execute(Connection, Transaction, statement, async, cancellationToken).ConfigureAwait(false));
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
            // Where the answer is no, nothing is held that could be trusted.
            Trust.Confirm();
            var reply = Dialect.Read(request, answer.Value);
            session.IsDirect |= reply.IsDirect;
            return answer with { Reply = reply };
        }
        catch (LockException e)
        {
            // The server's locks cannot be trusted. Nothing was taken.
            return answer with { Error = e, Reply = new(LockOutcome.Refused) };
        }
    }

    /// <summary>Gets or sets the settings of the session, while it is the lock's own and they are made.</summary>
    public SessionSettings? Settings { get; set; }

    /// <summary>Gets or sets whether the settings were asked for.</summary>
    public bool IsKept { get; set; }

    /// <summary>Asks to let go, and puts back the settings.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<Answer> AskToRelease(LockRequest request, bool async)
    {
        // What is asked again and again is said once.
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

        // What cannot be put back must not keep the lock. Where it was let go before the error, it is not held any more.
        answer = await Ask(release.Statement, async).ConfigureAwait(false);
        return answer is { Error: null, Number: 0 } ? new Answer(1L) : answer;
    }

    /// <summary>Asks a question once more when a cancel has hit it that was meant for the statement before.</summary>
    public async ValueTask<Answer> AskInspiteOfCancels(LockStatement question, bool async)
    {
        var answer = await Ask(question, async).ConfigureAwait(false);
        for (var attempt = 1; attempt < CancelAttempts && answer is { Error: not null, Outcome: LockOutcome.Cancelled }; attempt++)
        {
            answer = await Ask(question, async).ConfigureAwait(false);
        }

        return answer;
    }

    /// <summary>
    /// Ends the session: nobody knows what it holds, or nobody could let go of it. Its transaction and its other locks go with it.
    /// </summary>
    /// <param name="reason">What went wrong.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <param name="isQuestion">Whether the reason is what came of a question.</param>
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

        // Before the connection closes, which would be told as if the program had closed it.
        Session.End();
        if (IsOpen && Dialect.EndSession is { } statement)
        {
            // The session ends before it can answer. Where it does not end, closing the connection ends it.
            await Ask(statement, async).ConfigureAwait(false);
        }

        Discard();
    }

    /// <summary>Closes a connection whose session has ended; one that owes an answer is closed when that has come.</summary>
    public void CloseAfterEnd()
    {
        Session.End();
        Discard();
    }

    /// <summary>Gets whether the server, or the provider, has said that the session is gone.</summary>
    public bool IsSessionDead { get; private set; }

    /// <summary>Gets whether the connection was left behind with an answer that it owed, and is closed when that has come.</summary>
    public bool IsAbandoned { get; private set; }

    /// <summary>Waits no longer for an answer that is owed.</summary>
    public void GiveUp() => _patience?.GiveUp();

    /// <summary>Warns, once, of a release inside an open transaction.</summary>
    public void WarnOfCommit()
    {
        if (!_hasWarnedOfCommit)
        {
            _hasWarnedOfCommit = true;
            Log.ReleasedBeforeCommit(Logger, Key);
        }
    }

    /// <summary>Warns, once, of a snapshot that is older than the grant.</summary>
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

    private ValueTask<object?> ExecuteWithinLimit(LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var patience = _patience ??= new Patience(Abandon, CloseAfterAnswer);
        if (async && Limit.Token.CanBeCanceled)
        {
            return ExecuteCancellable(patience, statement, cancellationToken.CanBeCanceled);
        }

        patience.Begin(Limit);
        return async
            ? Await(patience, statement, cancellationToken)
            : ExecuteBlocking(patience, statement);
    }

    // Who cancels does not wait for what a provider does about it, which may be to connect to a server that is silent.
    private async ValueTask<object?> ExecuteCancellable(Patience patience, LockStatement statement, bool isCancelled)
    {
        using var cancel = new CancellationTokenSource();
        patience.Begin(Limit);
        using var registration = Limit.Token.UnsafeRegister(
            _ =>
            {
                patience.Cancel();
                cancel.CancelAsync();
            },
            null);
        var token = isCancelled ? cancel.Token : CancellationToken.None;
        return await Await(patience, statement, token).ConfigureAwait(false);
    }

    // A driver that does not go on asynchronously (ODBC's, where nothing waits) throws at once: that is its answer.
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

    // The connection owes an answer, and cannot be closed before that has come, or the provider has been made to give it up.
    private Task Abandon()
    {
        IsAbandoned = true;
        Session.End();
        Log.Silent(Logger, Key);
        return Abort();
    }

    // A provider may wait there for its own cancel, for which nobody is to wait.
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
            // A connection that cannot even be closed is of no more use to anybody.
        }
        finally
        {
            // It may be opened again.
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

    // In a transaction a prepared statement that somebody has deallocated (DISCARD ALL, DEALLOCATE ALL) would cost the transaction.
    private static bool MayPrepare(in LockRequest request) => request.IsDirect && !request.InTransaction;
}
