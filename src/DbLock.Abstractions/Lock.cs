using System.Data.Common;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using Microsoft.Extensions.Logging;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A lock on the database: what holds it, on which connection, under which key.</summary>
/// <remarks>
/// <para>
/// The lock lives on the caller's connection: closing it ends the hold, and every statement of the lock takes its turn among the caller's
/// own. Where two programs must agree on the lock, the key is what they share. A lock that is held and that nobody has any more is logged
/// as a warning when the garbage collector finds it; it is held until its connection closes.
/// </para>
/// <para><b>Threads.</b> A lock, like its connection, is used by one call at a time; a second one at the same time throws
/// <see cref="InvalidOperationException"/>.
/// <see cref="Lost"/> and <see cref="IsHeld"/> may be read from anywhere.</para>
/// <para><b>Cancellation.</b> A cancelled wait ends in <see cref="OperationCanceledException"/> after the server was asked: the lock is not
/// held then. A try and a release are one short round trip and are not interrupted.</para>
/// </remarks>
public sealed class Lock : IDisposable, IAsyncDisposable
{
    /// <summary>The category to make <see cref="LockOptions.Logger"/> with: <c>loggerFactory.CreateLogger(Lock.LogCategory)</c>.</summary>
    public const string LogCategory = "DbLock";

    /// <summary>
    /// The name of DbLock's <c>ActivitySource</c> and <c>Meter</c>, for OpenTelemetry's <c>AddSource</c> and <c>AddMeter</c>.
    /// </summary>
    public const string TelemetryName = Telemetry.Name;

    private readonly Conversation _conversation;
    private Hold? _hold;

    // How many of the hold's acquires are this lock's: a hold is shared by the re-entrant locks of a connection.
    private int _count;
    private LockState _state;
    private int _inUse;
    private bool _isGivenAnew;
    private long _granted;
    private bool _isSinceTold;

    /// <summary>Initializes a new lock. Nothing is sent to the server.</summary>
    /// <param name="connection">
    /// The connection that will hold the lock; it stays the caller's, and must be open when the lock is acquired.
    /// </param>
    /// <param name="key">The key.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection (<see cref="LockInterface.For"/>).</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    /// <exception cref="ArgumentException">The driver cannot use the connection.</exception>
    /// <exception cref="LockException">No driver was found for the connection.</exception>
    public Lock(DbConnection connection, LockKey key, LockInterface? lockInterface = null, LockOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(key);
        Interface = lockInterface ?? LockInterface.For(connection);
        if (!Interface.Driver.Supports(connection))
        {
            throw Refusals.WrongInterface(Interface, connection, nameof(lockInterface));
        }

        options ??= LockOptions.Default;
        if (options is { Fencing: true, Scope: LockScope.Transaction })
        {
            throw Refusals.FencedTransactionScope(nameof(options));
        }

        Key = key;
        _conversation = new Conversation(connection, Interface, key, options);
        if (options.Logger is null)
        {
            // There is nobody to tell.
            GC.SuppressFinalize(this);
        }
    }

    /// <summary>
    /// Tells that nobody has a lock any more that is held. Its connection is somebody else's, who may mean to hold it until that closes.
    /// </summary>
    ~Lock()
    {
        // A hold of session scope has no transaction, which may not be touched here.
        if (_hold is { Options.Scope: LockScope.Session } && IsHeld)
        {
            Log.Forgotten(_conversation.Logger, Key);
        }
    }

    /// <summary>Gets the key.</summary>
    public LockKey Key { get; }

    /// <summary>Gets the driver's name.</summary>
    public LockInterface Interface { get; }

    /// <summary>
    /// Gets or sets the transaction that is open on the connection, as <see cref="DbCommand.Transaction"/>; null when none is. Providers
    /// cannot be asked for it, so a transaction that the lock is used in must be given here. A completed transaction counts as none.
    /// </summary>
    /// <exception cref="ArgumentException">The transaction is another connection's.</exception>
    public DbTransaction? Transaction
    {
        get => _conversation.GivenTransaction;
        set
        {
            var connection = _conversation.Connection;
            if (value is not null && value.IsOpen() && value.Connection is { } own && own != connection
                && Wrapper.Innermost(own) != Wrapper.Innermost(connection))
            {
                throw Refusals.ForeignTransaction(nameof(value));
            }

            _conversation.GivenTransaction = value;
            _isGivenAnew = true;
        }
    }

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld => _hold is { } hold && _count > 0 && hold.Stands;

    /// <summary>
    /// Gets a token of this hold that fires when it is noticed that the server no longer holds the lock for us: the connection was closed
    /// or broken, or a later call found the lock gone. Before the first acquire it is <see cref="CancellationToken.None"/>. A release does
    /// not fire it.
    /// </summary>
    public CancellationToken Lost => _hold?.Lost ?? CancellationToken.None;

    /// <summary>
    /// Gets the fencing token of this hold, or of the last one: it is larger than those of all holds of the lock before it, in every
    /// process, also over crashes and failovers of the server. Null without <see cref="LockOptions.Fencing"/>, and before the first
    /// acquire.
    /// </summary>
    public long? FencingToken => _hold is { FencingToken: not 0 and var token } ? token : null;

    /// <summary>Gets whether the connection is the lock's own, opened outside of any TransactionScope.</summary>
    internal bool HasOwnConnection
    {
        get => _conversation.HasOwnConnection;
        init => _conversation.HasOwnConnection = value;
    }

    /// <summary>Gets what is told of who acquires, beside the name, where that is told; null for nothing.</summary>
    internal string? Holder
    {
        get => _conversation.Holder;
        init => _conversation.Holder = value;
    }

    internal DbConnection Connection => _conversation.Connection;

    internal LockScope Scope => _conversation.Options.Scope;

    internal LockDialect Dialect => _conversation.Dialect;

    internal ILogger Logger => _conversation.Logger;

    /// <summary>Gets whether the hold, or the last one, was lost.</summary>
    internal bool IsLost => _hold is { IsLost: true };

    /// <summary>Acquires the lock.</summary>
    /// <param name="block">True waits for ever; false tries once.</param>
    /// <returns>True when the lock is held; false when it is held elsewhere, which only a try answers.</returns>
    /// <exception cref="LockNotAcquiredException">
    /// The server ended the wait: its statement_timeout, or an administrator's cancel; or it ended the session, by its transaction_timeout.
    /// </exception>
    /// <exception cref="LockDeadlockException">The server ended the wait to break a deadlock.</exception>
    /// <exception cref="LockException">The server's locks cannot be trusted here, or the wait would be for this very session.</exception>
    /// <exception cref="InvalidOperationException">
    /// The connection is closed or busy, a transaction is missing or not given, or the lock is in use.
    /// </exception>
    public bool Acquire(bool block = true) => Completed(Acquire(Timeout(block), async: false, CancellationToken.None));

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">From zero, which tries once, to about 24 days (136 years on MySQL and MariaDB), rounded up to what the engine
    /// counts in (milliseconds; seconds on MySQL); <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever.</param>
    /// <inheritdoc cref="Acquire(bool)" path="/returns"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is negative, or longer than the engine can count.</exception>
    public bool Acquire(TimeSpan timeout) => Completed(Acquire(timeout, async: false, CancellationToken.None));

    /// <summary>Acquires the lock.</summary>
    /// <param name="block">True waits for ever; false tries once.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(bool)" path="/returns"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(bool block = true, CancellationToken cancellationToken = default) =>
        Acquire(Timeout(block), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting for ever.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="AcquireAsync(bool, CancellationToken)" path="/returns"/>
    /// <inheritdoc cref="AcquireAsync(bool, CancellationToken)" path="/exception"/>
    public ValueTask<bool> AcquireAsync(CancellationToken cancellationToken) =>
        Acquire(Timeout(block: true), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">As for <see cref="Acquire(TimeSpan)"/>.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/returns"/>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(TimeSpan timeout, CancellationToken cancellationToken = default) =>
        Acquire(timeout, async: true, cancellationToken);

    /// <summary>Lets go of the lock.</summary>
    /// <returns>
    /// True when this acquire was let go; false when the lock was not held, or ends with its transaction (also one that the lock does not
    /// know, in which it had to be waited for), or was lost after <see cref="HandleError(Exception)"/>.
    /// </returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    /// <exception cref="LockException">
    /// The transaction has failed and may not be rolled back here, so the server refuses to unlock: the lock is still held.
    /// </exception>
    public bool Release() => Completed(Release(async: false));

    /// <inheritdoc cref="Release()"/>
    public ValueTask<bool> ReleaseAsync() => Release(async: true);

    /// <summary>
    /// Throws when it has been noticed that this hold is lost; asks nobody. Call it before each step that must not be done twice.
    /// </summary>
    /// <exception cref="LockLostException">The server no longer holds the lock for us.</exception>
    public void ThrowIfLost()
    {
        if (IsLost)
        {
            throw Refusals.Lost(Key, null);
        }
    }

    /// <summary>Asks the server who holds the lock, this session included, and how many wait for it.</summary>
    /// <returns>The holders at the moment of the question: none when the lock is free.</returns>
    /// <exception cref="NotSupportedException">The dialect does not tell; PostgreSQL's does.</exception>
    /// <exception cref="InvalidOperationException">The connection is closed or busy, or the lock is in use.</exception>
    public LockHolders GetHolders() => Completed(GetHolders(async: false, CancellationToken.None));

    /// <inheritdoc cref="GetHolders()"/>
    /// <param name="cancellationToken">Cancels the question.</param>
    public ValueTask<LockHolders> GetHoldersAsync(CancellationToken cancellationToken = default) =>
        GetHolders(async: true, cancellationToken);

    /// <summary>
    /// Prepares the release after the work failed: rolls <see cref="Transaction"/> back, unless <see cref="LockOptions.RollbackOnError"/>
    /// is off. It does not throw, and the release that follows does not throw over the caller's own exception either.
    /// </summary>
    /// <param name="error">The work's exception.</param>
    public void HandleError(Exception error) => Completed(HandleError(error, async: false));

    /// <inheritdoc cref="HandleError(Exception)"/>
    public ValueTask HandleErrorAsync(Exception error) => HandleError(error, async: true);

    /// <summary>Runs a body under the lock: acquires, runs, rolls back on error, always releases.</summary>
    /// <param name="body">The body.</param>
    /// <param name="timeout">How long to wait for the lock; null waits for ever.</param>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout. The body did not run.</exception>
    /// <exception cref="LockLostException">The body ran to its end, but the lock was lost before.</exception>
    public void Run(Action body, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        Completed(RunOrThrow(Body(body), timeout, async: false, CancellationToken.None));
    }

    /// <inheritdoc cref="Run(Action, TimeSpan?)"/>
    /// <returns>What the body returns.</returns>
    public T Run<T>(Func<T> body, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        var result = default(T)!;
        Run(() => { result = body(); }, timeout);
        return result;
    }

    /// <summary>Runs an asynchronous body under the lock: acquires, runs, rolls back on error, always releases.</summary>
    /// <param name="body">The body.</param>
    /// <param name="timeout">How long to wait for the lock; null waits for ever.</param>
    /// <param name="cancellationToken">Ends the wait, and is given to the body.</param>
    /// <inheritdoc cref="Run(Action, TimeSpan?)" path="/exception"/>
    /// <remarks>The body's token fires when the caller's does, or when <see cref="Lost"/> does.</remarks>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The body did not run.</exception>
    public Task RunAsync(Func<CancellationToken, Task> body, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        return RunOrThrow(Body(body), timeout, async: true, cancellationToken).AsTask();
    }

    /// <inheritdoc cref="RunAsync(Func{CancellationToken, Task}, TimeSpan?, CancellationToken)"/>
    /// <returns>What the body returns.</returns>
    public async Task<T> RunAsync<T>(
        Func<CancellationToken, Task<T>> body, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        var result = default(T)!;
        await RunAsync(
            async token => { result = await body(token).ConfigureAwait(false); }, timeout, cancellationToken).ConfigureAwait(false);
        return result;
    }

    /// <summary>Runs a body under the lock, or skips it when the lock is held elsewhere.</summary>
    /// <param name="body">The body.</param>
    /// <param name="timeout">How long to wait for the lock; zero (default) tries once.</param>
    /// <returns>True when the body ran; false when it was skipped.</returns>
    /// <exception cref="LockLostException">The body ran to its end, but the lock was lost before.</exception>
    public bool TryRun(Action body, TimeSpan timeout = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        return Completed(Run(Body(body), timeout, async: false, CancellationToken.None));
    }

    /// <summary>Runs an asynchronous body under the lock, or skips it when the lock is held elsewhere.</summary>
    /// <param name="body">The body.</param>
    /// <param name="timeout">How long to wait for the lock; zero (default) tries once.</param>
    /// <param name="cancellationToken">Ends the wait, and is given to the body.</param>
    /// <inheritdoc cref="TryRun(Action, TimeSpan)" path="/returns"/>
    /// <inheritdoc cref="TryRun(Action, TimeSpan)" path="/exception"/>
    /// <remarks>The body's token fires when the caller's does, or when <see cref="Lost"/> does.</remarks>
    public Task<bool> TryRunAsync(
        Func<CancellationToken, Task> body, TimeSpan timeout = default, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        return Run(Body(body), timeout, async: true, cancellationToken).AsTask();
    }

    /// <summary>Stops an asynchronous body, which would lose the lock at its first await.</summary>
    /// <param name="body">The body.</param>
    /// <param name="timeout">The timeout.</param>
    [Obsolete("use RunAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public void Run(Func<Task> body, TimeSpan? timeout = null) => throw new NotSupportedException("An asynchronous body needs RunAsync.");

    /// <inheritdoc cref="Run(Func{Task}, TimeSpan?)"/>
    [Obsolete("use RunAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public T Run<T>(Func<Task<T>> body, TimeSpan? timeout = null) =>
        throw new NotSupportedException("An asynchronous body needs RunAsync.");

    /// <inheritdoc cref="Run(Func{Task}, TimeSpan?)"/>
    [Obsolete("use TryRunAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public bool TryRun(Func<Task> body, TimeSpan timeout = default) =>
        throw new NotSupportedException("An asynchronous body needs TryRunAsync.");

    /// <summary>
    /// Lets go of the lock if it is held, all its acquires at once. It does not throw when the server cannot be reached; where the lock
    /// cannot be let go, the session is ended, so that a pooled connection never goes back with it.
    /// </summary>
    public void Dispose()
    {
        Completed(Dispose(async: false));
        GC.SuppressFinalize(this);
    }

    /// <inheritdoc cref="Dispose()"/>
    public async ValueTask DisposeAsync()
    {
        await Dispose(async: true).ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    private static TimeSpan Timeout(bool block) => block ? System.Threading.Timeout.InfiniteTimeSpan : TimeSpan.Zero;

    private static Func<CancellationToken, ValueTask> Body(Action body) => _ =>
    {
        body();
        return ValueTask.CompletedTask;
    };

    private static Func<CancellationToken, ValueTask> Body(Func<CancellationToken, Task> body) => token => new ValueTask(body(token));

    /// <summary>Makes the session last, which is the lock's own, and tells the lock there.</summary>
    internal async ValueTask Keep(bool async, CancellationToken cancellationToken)
    {
        if (await Keeping.Keep(_conversation, async, cancellationToken).ConfigureAwait(false) is { } error)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ExceptionDispatchInfo.Throw(error);
        }
    }

    /// <inheritdoc cref="Keeping.PutBack"/>
    internal ValueTask PutBack(Limit limit, bool async) => Keeping.PutBack(_conversation, limit, async);

    /// <inheritdoc cref="Conversation.IsSessionDead"/>
    internal bool IsSessionDead => _conversation.IsSessionDead;

    /// <inheritdoc cref="Conversation.IsAbandoned"/>
    internal bool IsAbandoned => _conversation.IsAbandoned;

    /// <inheritdoc cref="Conversation.Trust"/>
    internal ref TrustWindow Trust => ref _conversation.Trust;

    /// <summary>Counts the lock as lost, because the server has not confirmed it for too long.</summary>
    internal void Distrust()
    {
        if (_hold is { Stands: true } hold)
        {
            NoteLoss(hold, null);
            _conversation.GiveUp();
        }
    }

    /// <summary>Asks the server whether it still holds the lock for us; if not, that is a loss.</summary>
    internal async ValueTask<bool> Confirm(bool async)
    {
        Enter();
        try
        {
            if (!IsHeld || _hold is not { } hold)
            {
                return false;
            }

            _conversation.Limit = Limit.Of(TrustWindow.Length, CancellationToken.None);
            if (HasOwnConnection && await Keeping.Keep(_conversation, async, CancellationToken.None).ConfigureAwait(false) is { } error)
            {
                NoteLoss(hold, error);
                return false;
            }

            Trust.Ask(Stopwatch.GetTimestamp());
            var answer = await _conversation.Ask(Question(hold), async).ConfigureAwait(false);

            // The server may answer that it cannot say: somebody's cancel, a full lock table, a missing right. The session lives, and with
            // it what it holds.
            var lives = answer.Error is not null && _conversation.IsOpen
                && answer.Outcome is not (LockOutcome.ConnectionLost or LockOutcome.Unknown);
            if (answer.IsYes || lives)
            {
                Trust.Confirm();
                return true;
            }

            Trust.Fail();
            NoteLoss(hold, answer.Error);
            if (answer.Error is null)
            {
                await Undoing.LetGoOfTheRest(_conversation, hold, async).ConfigureAwait(false);
            }

            return false;
        }
        finally
        {
            _conversation.Limit = default;
            Exit();
        }
    }

    // The first question tells since when, so that this costs no round trip; it is not told again, so that a server that refuses it still
    // answers the others.
    private LockStatement Question(Hold hold)
    {
        var session = _conversation.PhysicalSession;
        var isAlive = HasOwnConnection && session.IsDirect && session.Id(Connection, Interface.Driver) is { } id
            ? Dialect.IsAlive(id) : null;
        var isHeld = (
            isAlive ?? Dialect.IsHeld(
                new LockRequest(Key) { Shared = hold.Options.Shared })) with
        { Limit = TrustWindow.Length, MayPrepare = session.IsDirect };
        var since = _isSinceTold ? null : _conversation.Settings?.TellSince(Stopwatch.GetElapsedTime(_granted));
        _isSinceTold = true;
        var question = since is null ? isHeld : new LockStatement([.. isHeld.Commands, .. since]) { Limit = TrustWindow.Length };
        return question with { Comment = _conversation.Comment };
    }

    /// <summary>Acquires, and throws when the lock was held elsewhere for the whole timeout.</summary>
    internal async ValueTask AcquireOrThrow(TimeSpan? timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await Acquire(timeout ?? System.Threading.Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false))
        {
            throw await DidNotRun(timeout, async).ConfigureAwait(false);
        }
    }

    /// <summary>Runs a body under the lock, and throws when the lock was held elsewhere for the whole timeout.</summary>
    internal async ValueTask RunOrThrow(
        Func<CancellationToken, ValueTask> body, TimeSpan? timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await Run(body, timeout ?? System.Threading.Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false))
        {
            throw await DidNotRun(timeout, async).ConfigureAwait(false);
        }
    }

    /// <summary>Returns the exception for a timeout that is no answer to the caller; it says who holds the lock.</summary>
    internal async ValueTask<LockNotAcquiredException> NotAcquired(TimeSpan timeout, string meaning, string orElse, bool async) =>
        LockNotAcquiredException.Within(
            timeout, Key, meaning, null, await Holders.TryAsk(_conversation, async).ConfigureAwait(false), orElse);

    /// <summary>
    /// Lets go after a body ran to its end. Nobody but this call knows when to release, so that a lock which cannot be let go costs the
    /// session.
    /// </summary>
    internal async ValueTask ReleaseAfterBody(bool async)
    {
        try
        {
            await Release(async).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not LockLostException && IsHeld && _hold!.Options.Scope == LockScope.Session)
        {
            await _conversation.EndSession(e, async).ConfigureAwait(false);
            throw Refusals.NotLetGoAfterBody(Key, e);
        }
    }

    /// <summary>Lets go after a body failed in a savepoint that was rolled back; nothing may be thrown over the body's exception.</summary>
    internal async ValueTask LetGoAfterError(bool async)
    {
        Enter();
        try
        {
            if (_hold is { Options.Scope: LockScope.Transaction } hold)
            {
                // It has ended with the savepoint, unless it was acquired before that.
                await Acquiring.ForgetEnded(_conversation, new LockRequest(Key), [hold], async).ConfigureAwait(false);
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

    internal async ValueTask Dispose(bool async)
    {
        if (_state == LockState.Disposed)
        {
            return;
        }

        Enter();
        try
        {
            if (IsHeld && _hold!.Options.Scope == LockScope.Session)
            {
                // What is thrown in a using would hide the caller's own exception.
                NoteError();
                _hold.Count -= _count - 1;
                _count = 1;
                await ReleaseOrEndSession(async).ConfigureAwait(false);
            }
        }
        finally
        {
            _state = LockState.Disposed;
            Exit();
        }
    }

    private ValueTask<bool> Acquire(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        if (timeout < TimeSpan.Zero && timeout != System.Threading.Timeout.InfiniteTimeSpan)
        {
            // A wrong argument is told by the call itself, and to telemetry.
            RefuseAndTell(timeout);
        }

        return Telemetry.HearsAcquires ? AcquireAndTell(timeout, async, cancellationToken) : AcquireOnConnection(timeout, async,
            cancellationToken);
    }

    private void RefuseAndTell(TimeSpan timeout) => Completed(Tell(() =>
    {
        Admission.CheckTimeout(timeout, Key, TimeSpan.MaxValue, dialect: null);
        return new ValueTask<bool>(false);
    }));

    private ValueTask<bool> AcquireAndTell(TimeSpan timeout, bool async, CancellationToken cancellationToken) =>
        Tell(() => AcquireOnConnection(timeout, async, cancellationToken));

    private ValueTask<bool> Tell(Func<ValueTask<bool>> acquire) =>
        Telemetry.Tell(acquire, static acquired => acquired, () => (Connection.Database, _conversation.Spoken), Key, _conversation.Options);

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<bool> AcquireOnConnection(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_state == LockState.Disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            _conversation.Limit = Limit.Of(timeout, cancellationToken);
            var request = Admission.Admit(_conversation, timeout);
            if (await Acquiring.Acquire(_conversation, request, _isGivenAnew, async, cancellationToken).ConfigureAwait(false) is not { } hold)
            {
                return false;
            }

            _count = _hold == hold ? _count + 1 : 1;
            (_hold, _state, _isGivenAnew) = (hold, LockState.Held, false);
            _granted = HasOwnConnection || _conversation.Settings is not null ? Stopwatch.GetTimestamp() : 0;
            if (!_conversation.IsOpen)
            {
                // It closed after the grant and before anybody knew of it.
                _conversation.Session.End();
                throw Refusals.Lost(Key, null);
            }

            return true;
        }
        finally
        {
            _conversation.Limit = default;
            Exit();
        }
    }

    private async ValueTask<LockNotAcquiredException> DidNotRun(TimeSpan? timeout, bool async) =>
        await NotAcquired(timeout.GetValueOrDefault(), ", and the body did not run", "TryRun to skip it", async).ConfigureAwait(false);

    private async ValueTask<bool> Run(
        Func<CancellationToken, ValueTask> body, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await Acquire(timeout, async, cancellationToken).ConfigureAwait(false))
        {
            return false;
        }

        try
        {
            using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, async ? Lost : CancellationToken.None);
            await body(ended.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await HandleError(e, async).ConfigureAwait(false);
            await ReleaseOrEndSession(async).ConfigureAwait(false);
            throw;
        }

        await ReleaseAfterBody(async).ConfigureAwait(false);
        return true;
    }

    private async ValueTask HandleError(Exception error, bool async)
    {
        ArgumentNullException.ThrowIfNull(error);
        NoteError();
        if (_conversation.Options.RollbackOnError && _conversation.Transaction is { } transaction)
        {
            await Releasing.RollBack(_conversation, transaction, async).ConfigureAwait(false);
        }
    }

    private ValueTask<bool> Release(bool async)
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
    private async ValueTask<bool> ReleaseOnConnection(bool async)
    {
        if (_hold is not { } hold || _count == 0)
        {
            return false;
        }

        if (hold.IsLost)
        {
            return Lose(hold, null);
        }

        if (hold.Options.Scope == LockScope.Transaction)
        {
            return false;
        }

        if (_conversation.IsOpen && hold.Count > 1)
        {
            hold.Count--;
            _count--;
            return true;
        }

        var isInTransaction = _conversation.Transaction is not null;
        _conversation.Limit = HasOwnConnection ? Limit.Of(TrustWindow.Length, CancellationToken.None) : default;
        var (verdict, error) = await Releasing.Release(_conversation, hold, async).ConfigureAwait(false);
        _conversation.Limit = default;
        switch (verdict)
        {
            case ReleaseVerdict.Released:
                LetGo(hold);
                Log.Released(Logger, Key);
                if (isInTransaction && _conversation.Transaction is not null)
                {
                    _conversation.WarnOfCommit();
                }

                return true;
            case ReleaseVerdict.KeptByTransaction:
                LetGo(hold);
                Log.KeptByTransaction(Logger, Key);
                return false;
            case ReleaseVerdict.Lost:
                return Lose(hold, error);
            default:
                return await ReleaseRefused(hold, error!, async).ConfigureAwait(false);
        }
    }

    // After HandleError nobody would release it again, unless a transaction that the lock knows is the caller's to roll back first.
    private async ValueTask<bool> ReleaseRefused(Hold hold, Exception error, bool async)
    {
        if (_state != LockState.HeldAfterError)
        {
            ExceptionDispatchInfo.Throw(error);
        }

        if (_conversation.Transaction is not null && !_conversation.Options.RollbackOnError)
        {
            Log.ReleaseFailed(Logger, Key, error);
            return false;
        }

        await _conversation.EndSession(error, async).ConfigureAwait(false);
        return Lose(hold, error);
    }

    // What cannot be let go costs the session: nobody would release it later, and a pooled connection must not go back with it.
    private async ValueTask ReleaseOrEndSession(bool async)
    {
        if (!await ReleaseOnConnection(async).ConfigureAwait(false) && IsHeld && _hold!.Options.Scope == LockScope.Session && _conversation.IsOpen)
        {
            await _conversation.EndSession(null, async).ConfigureAwait(false);
        }
    }

    // After HandleError the caller's own exception is on its way, and nothing may be thrown over it.
    private bool Lose(Hold hold, Exception? error)
    {
        var isAfterError = _state == LockState.HeldAfterError;
        (_count, _state) = (0, LockState.Free);
        NoteLoss(hold, error);
        return isAfterError ? false : throw Refusals.Lost(Key, error);
    }

    private void LetGo(Hold hold)
    {
        (_count, _state) = (0, LockState.Free);
        hold.Release();
    }

    private void NoteLoss(Hold hold, Exception? error)
    {
        // Who distrusts the server ends its question, and is not told of that as of another loss.
        if (error is not SilenceException || !hold.IsLost)
        {
            Log.Lost(Logger, Key, error);
        }

        hold.Lose();
    }

    private void NoteError() => _state = _state == LockState.Held ? LockState.HeldAfterError : _state;

    private async ValueTask<LockHolders> GetHolders(bool async, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_state == LockState.Disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            Admission.CheckOpen(_conversation);
            return await Holders.Ask(_conversation, async, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            Exit();
        }
    }

    private void Enter()
    {
        if (Interlocked.Exchange(ref _inUse, 1) != 0)
        {
            throw Refusals.InUse(Key);
        }
    }

    private void Exit() => Volatile.Write(ref _inUse, 0);
}
