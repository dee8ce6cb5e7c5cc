using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using Microsoft.Extensions.Logging;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A lock on the database: what holds it, on which connection, under which key.</summary>
/// <remarks>
/// <para>
/// The lock lives on the caller's connection: closing it ends the hold, and every statement of the lock takes its turn among the caller's own. Where two
/// programs must agree on the lock, the key is what they share. A lock that is held and that nobody has any more is logged as a warning when the garbage collector finds it; it is
/// held until its connection closes.
/// </para>
/// <para><b>Threads.</b> A lock, like its connection, is used by one call at a time; a second one at the same time throws <see cref="InvalidOperationException"/>.
/// <see cref="Lost"/> and <see cref="IsHeld"/> may be read from anywhere.</para>
/// <para><b>Cancellation.</b> A cancelled wait ends in <see cref="OperationCanceledException"/> after the server was asked: the lock is not held then. A try and a
/// release are one short round trip and are not interrupted.</para>
/// </remarks>
public sealed class Lock : IDisposable, IAsyncDisposable
{
    /// <summary>The category to make <see cref="LockOptions.Logger"/> with: <c>loggerFactory.CreateLogger(Lock.LogCategory)</c>.</summary>
    public const string LogCategory = "DbLock";

    /// <summary>The name of DbLock's <c>ActivitySource</c> and <c>Meter</c>, for OpenTelemetry's <c>AddSource</c> and <c>AddMeter</c>.</summary>
    public const string TelemetryName = "DbLock";

    // A cancel that the server notices late, or somebody else's, may hit what must not be cancelled: it is said again so often.
    private const int CancelAttempts = 10;

    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(200);

    private readonly DbConnection _connection;
    private readonly ILockDriver _driver;
    private readonly ILogger _logger;
    private readonly LockOptions _options;
    private Session _session;
    private Hold? _hold;
    private LockIdentity? _identity;
    private (LockRequest Request, LockStatement Statement)? _acquire;
    private (LockRequest Request, LockStatement Statement)? _release;
    private System.Transactions.Transaction? _enlisted;
    private SessionSettings? _settings;
    private string? _comment;
    private long _granted;
    private int _count;
    private int _inUse;
    private bool _errorHandled;
    private bool _warnedOfCommit;
    private bool _warnedOfSnapshot;
    private bool _isGivenAnew;
    private bool _isSinceTold;
    private bool _disposed;

    /// <summary>Initializes a new lock. Nothing is sent to the server.</summary>
    /// <param name="connection">The connection that will hold the lock; it stays the caller's, and must be open when the lock is acquired.</param>
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
            var (type, inner) = (connection.GetType().FullName, Wrapper.Innermost(connection).GetType().FullName);
            throw new ArgumentException(
                $"LockInterface.{Interface} cannot use a {type}{(inner == type ? "" : $", which wraps a {inner}")}: leave the interface out, and it is found from the connection.",
                nameof(lockInterface));
        }

        _connection = connection;
        _driver = Interface.Driver;
        _options = options ?? LockOptions.Default;
        if (_options is { Fencing: true, Scope: LockScope.Transaction })
        {
            throw new ArgumentException(
                "A lock of transaction scope has no fencing token, because its transaction may be older than the grant: leave LockOptions.Fencing or LockOptions.Scope out.", nameof(options));
        }

        _logger = QuietLogger.Of(_options.Logger);
        _session = Session.Of(connection);
        Key = key;
        if (_options.Logger is null)
        {
            // There is nobody to tell.
            GC.SuppressFinalize(this);
        }
    }

    /// <summary>Tells that nobody has a lock any more that is held. Its connection is somebody else's, who may mean to hold it until that closes.</summary>
    ~Lock()
    {
        // A hold of session scope has no transaction, which may not be touched here.
        if (_hold is { Options.Scope: LockScope.Session } && IsHeld)
        {
            Log.Forgotten(_logger, Key);
        }
    }

    /// <summary>Gets the key.</summary>
    public LockKey Key { get; }

    /// <summary>Gets the driver's name.</summary>
    public LockInterface Interface { get; }

    /// <summary>
    /// Gets or sets the transaction that is open on the connection, as <see cref="DbCommand.Transaction"/>; null when none is. Providers cannot be asked for
    /// it, so a transaction that the lock is used in must be given here. A completed transaction counts as none.
    /// </summary>
    /// <exception cref="ArgumentException">The transaction is another connection's.</exception>
    public DbTransaction? Transaction
    {
        get;
        set
        {
            if (value is not null && value.IsOpen() && value.Connection is { } own && own != _connection && Wrapper.Innermost(own) != Wrapper.Innermost(_connection))
            {
                throw new ArgumentException(
                    "This transaction belongs to another connection, or to one inside a wrapper that cannot be seen through: begin one on the lock's own connection, or make the lock on "
                    + "the transaction's.",
                    nameof(value));
            }

            field = value;
            _isGivenAnew = true;
        }
    }

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld => _hold is { } hold && _count > 0 && hold.Stands;

    /// <summary>
    /// Gets a token of this hold that fires when it is noticed that the server no longer holds the lock for us: the connection was closed or broken, or a
    /// later call found the lock gone. Before the first acquire it is <see cref="CancellationToken.None"/>. A release does not fire it.
    /// </summary>
    public CancellationToken Lost => _hold?.Lost ?? CancellationToken.None;

    /// <summary>
    /// Gets the fencing token of this hold, or of the last one: it is larger than those of all holds of the lock before it, in every process, also over crashes and failovers of the
    /// server. Null without <see cref="LockOptions.Fencing"/>, and before the first acquire.
    /// </summary>
    public long? FencingToken => _hold is { FencingToken: not 0 and var token } ? token : null;

    private LockDialect Dialect => _options.Dialect ?? _session.Dialect(_connection, Interface, OpenTransaction);

    /// <summary>Gets whether the connection is the lock's own, opened outside of any TransactionScope.</summary>
    internal bool HasOwnConnection { get; init; }

    private bool IsInTransaction => OpenTransaction is not null || _enlisted?.IsOpen() == true;

    private DbTransaction? OpenTransaction => Transaction is { } transaction && transaction.IsOpen() ? transaction : null;

    /// <summary>Acquires the lock.</summary>
    /// <param name="block">True waits for ever; false tries once.</param>
    /// <returns>True when the lock is held; false when it is held elsewhere, which only a try answers.</returns>
    /// <exception cref="LockNotAcquiredException">The server ended the wait: its statement_timeout, or an administrator's cancel.</exception>
    /// <exception cref="LockDeadlockException">The server ended the wait to break a deadlock.</exception>
    /// <exception cref="LockException">The server's locks cannot be trusted here, or the wait would be for this very session.</exception>
    /// <exception cref="InvalidOperationException">The connection is closed or busy, a transaction is missing or not given, or the lock is in use.</exception>
    public bool Acquire(bool block = true) => Completed(Acquire(Timeout(block), async: false, CancellationToken.None));

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">From zero, which tries once, to about 24 days (136 years on MySQL and MariaDB), rounded up to what the engine counts in (milliseconds;
    /// seconds on MySQL); <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever.</param>
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
    public ValueTask<bool> AcquireAsync(CancellationToken cancellationToken) => Acquire(Timeout(block: true), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">As for <see cref="Acquire(TimeSpan)"/>.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/returns"/>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(TimeSpan timeout, CancellationToken cancellationToken = default) => Acquire(timeout, async: true, cancellationToken);

    /// <summary>Lets go of the lock.</summary>
    /// <returns>True when this acquire was let go; false when the lock was not held, or ends with its transaction, or was lost after <see cref="HandleError(Exception)"/>.</returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    /// <exception cref="LockException">The transaction has failed and may not be rolled back here, so the server refuses to unlock: the lock is still held.</exception>
    public bool Release() => Completed(Release(async: false));

    /// <inheritdoc cref="Release()"/>
    public ValueTask<bool> ReleaseAsync() => Release(async: true);

    /// <summary>Throws when it has been noticed that this hold is lost; asks nobody. Call it before each step that must not be done twice.</summary>
    /// <exception cref="LockLostException">The server no longer holds the lock for us.</exception>
    public void ThrowIfLost()
    {
        if (IsLost)
        {
            throw Loss(null);
        }
    }

    /// <summary>Asks the server who holds the lock, this session included, and how many wait for it.</summary>
    /// <returns>The holders at the moment of the question: none when the lock is free.</returns>
    /// <exception cref="NotSupportedException">The dialect does not tell; PostgreSQL's does.</exception>
    /// <exception cref="InvalidOperationException">The connection is closed or busy, or the lock is in use.</exception>
    public LockHolders GetHolders() => Completed(GetHolders(async: false, CancellationToken.None));

    /// <inheritdoc cref="GetHolders()"/>
    /// <param name="cancellationToken">Cancels the question.</param>
    public ValueTask<LockHolders> GetHoldersAsync(CancellationToken cancellationToken = default) => GetHolders(async: true, cancellationToken);

    /// <summary>
    /// Prepares the release after the work failed: rolls <see cref="Transaction"/> back, unless <see cref="LockOptions.RollbackOnError"/> is off. It does not
    /// throw, and the release that follows does not throw over the caller's own exception either.
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
    public async Task<T> RunAsync<T>(Func<CancellationToken, Task<T>> body, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(body);
        var result = default(T)!;
        await RunAsync(async token => { result = await body(token).ConfigureAwait(false); }, timeout, cancellationToken).ConfigureAwait(false);
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
    public Task<bool> TryRunAsync(Func<CancellationToken, Task> body, TimeSpan timeout = default, CancellationToken cancellationToken = default)
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
    public T Run<T>(Func<Task<T>> body, TimeSpan? timeout = null) => throw new NotSupportedException("An asynchronous body needs RunAsync.");

    /// <inheritdoc cref="Run(Func{Task}, TimeSpan?)"/>
    [Obsolete("use TryRunAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public bool TryRun(Func<Task> body, TimeSpan timeout = default) => throw new NotSupportedException("An asynchronous body needs TryRunAsync.");

    /// <summary>
    /// Lets go of the lock if it is held, all its acquires at once. It does not throw when the server cannot be reached; where the lock cannot be let go,
    /// the session is ended, so that a pooled connection never goes back with it.
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

    private ValueTask<bool> Acquire(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        if (timeout < TimeSpan.Zero && timeout != System.Threading.Timeout.InfiniteTimeSpan)
        {
            // A wrong argument is told by the call itself, and to telemetry.
            RefuseAndTell(timeout);
        }

        return Telemetry.HearsAcquires ? AcquireAndTell(timeout, async, cancellationToken) : AcquireOne(timeout, async, cancellationToken);
    }

    private void RefuseAndTell(TimeSpan timeout) => Completed(Tell(() =>
    {
        CheckTimeout(timeout, Key, TimeSpan.MaxValue, dialect: null);
        return new ValueTask<bool>(false);
    }));

    private ValueTask<bool> AcquireAndTell(TimeSpan timeout, bool async, CancellationToken cancellationToken) => Tell(() => AcquireOne(timeout, async, cancellationToken));

    private ValueTask<bool> Tell(Func<ValueTask<bool>> acquire) =>
        Telemetry.Tell(acquire, static acquired => acquired, () => (_connection.Database, _identity?.Dialect), Key, _options);

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<bool> AcquireOne(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            CheckOpen();
            _enlisted = FindEnlistment();

            // A wrapper may have another connection inside than before.
            _session = Session.Of(_connection);
            var dialect = Dialect;
            CheckTimeout(timeout, Key, dialect.MaxTimeout, dialect);
            if (Key.IsSeveral && !dialect.HasSeveral)
            {
                throw new NotSupportedException($"{dialect.Name} cannot lock several keys at once here: use a lock for each, always in the same order.");
            }

            var transaction = CheckTransaction(timeout, dialect);
            CheckFencing(transaction, dialect);
            var request = new LockRequest(
                Key, _options.Shared, _options.Scope, timeout, IsInTransaction, _options.TrustPooler ? null : _session.Current.Id(_connection, _driver), !_options.TrustPooler && _session.Current.IsDirect,
                Fencing: _options.Fencing);
            var identity = Identity(dialect);
            var holds = _session.Find(identity);
            if (_options.Scope == LockScope.Transaction && _isGivenAnew && AreOfOneTransaction(holds))
            {
                // Npgsql uses its transaction object again, so that a hold may seem to stand whose transaction has ended: the acquire itself finds out. The very same lock can
                // be granted to its transaction once more, and the answer tells which that is; of any other the server looks before.
                var (hold, isSame) = (holds[0], identity.IsSameAs(holds[0].Identity) && holds[0].Options.Shared == _options.Shared);
                var first = isSame ? request : request with { HeldIn = hold.TransactionId };
                (LockOutcome Outcome, long Number) outcome;
                try
                {
                    outcome = await AcquireFirst(dialect, first, transaction, async, cancellationToken).ConfigureAwait(false);
                }
                catch (Exception e) when (e is OperationCanceledException or LockException)
                {
                    await ForgetEnded(holds, dialect, request, transaction, async).ConfigureAwait(false);
                    throw;
                }

                if (outcome.Outcome != LockOutcome.AlreadyHeld && (!isSame || outcome.Number != hold.TransactionId))
                {
                    Array.ForEach(holds, static hold => hold.Release());
                    return Acquired(outcome);
                }
            }

            foreach (var hold in holds)
            {
                if (await StillHolds(hold, dialect, request, transaction, async).ConfigureAwait(false))
                {
                    return AcquireAgain(hold, identity, request);
                }

                if (hold.Options.Scope == LockScope.Transaction)
                {
                    hold.Release();
                    continue;
                }

                hold.Lose();
                await LetGoOfTheRest(hold, dialect, transaction, async).ConfigureAwait(false);
                throw Loss(null);
            }

            return Acquired(request.Try || (_options.Wait == LockWait.Queue && (!cancellationToken.CanBeCanceled || _driver.CanCancel(_connection)))
                ? await AcquireFirst(dialect, request, transaction, async, cancellationToken).ConfigureAwait(false)
                : await AcquireInSlices(dialect, request, transaction, async, cancellationToken).ConfigureAwait(false));

            bool Acquired((LockOutcome Outcome, long Number) end)
            {
                if (end.Outcome != LockOutcome.Acquired)
                {
                    Log.NotAcquired(_logger, Key);
                    return false;
                }

                var hold = new Hold(identity, Key, _options, _driver, Telemetry.HearsHolds ? _connection.Database : null, _options.Scope == LockScope.Transaction ? transaction : null, _enlisted, end.Number);
                _session.Add(hold);
                Take(hold);
                if (_connection.State != ConnectionState.Open)
                {
                    // It closed after the grant and before anybody knew of it.
                    _session.End();
                    throw Loss(null);
                }

                Log.Acquired(_logger, Key);
                return true;
            }
        }
        finally
        {
            Exit();
        }
    }

    // For drivers that cannot cancel, and for who yields: short waits, each of which has a certain end, and a look at the token between them.
    private async ValueTask<(LockOutcome Outcome, long Number)> AcquireInSlices(
        LockDialect dialect, LockRequest request, DbTransaction? transaction, bool async, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        while (true)
        {
            var left = request.Timeout - Stopwatch.GetElapsedTime(start);
            var isLast = request.Timeout >= TimeSpan.Zero && left <= Slice;
            var slice = request with { Timeout = !isLast ? Slice : left > TimeSpan.Zero ? left : TimeSpan.Zero };
            var end = await AcquireFirst(dialect, slice, transaction, async, _driver.CanCancel(_connection) ? cancellationToken : CancellationToken.None).ConfigureAwait(false);
            if (end.Outcome == LockOutcome.Acquired || isLast)
            {
                return end;
            }

            if (cancellationToken.IsCancellationRequested)
            {
                throw Cancelled(Key, null, cancellationToken);
            }

            if (_connection.State != ConnectionState.Open)
            {
                throw Broke(null);
            }
        }
    }

    // The number is the transaction's in transaction scope, else the fencing token, or 0.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<(LockOutcome Outcome, long Number)> AcquireFirst(
        LockDialect dialect, LockRequest request, DbTransaction? transaction, bool async, CancellationToken cancellationToken)
    {
        var statement = AcquireStatement(dialect, request);
        object? answer = null;
        Exception? error = null;
        DbError read = default;
        LockOutcome outcome;
        try
        {
            // A try is short, and interrupting it would cost a question or the caller's transaction.
            var token = request.Try ? CancellationToken.None : cancellationToken;
            var current = _session.Current;
            answer = await _driver.Execute(_connection, transaction, statement, async, token).ConfigureAwait(false);
            outcome = dialect.Read(answer);
            current.IsDirect |= dialect.IsDirect(request, answer);
        }
        catch (LockException)
        {
            throw;
        }
        catch (Exception e)
        {
            read = _driver.Read(e);
            if (read.NotSent && !cancellationToken.IsCancellationRequested && _connection.State == ConnectionState.Open)
            {
                throw NotSent(e, "The lock is not acquired.");
            }

            // A cancel meets providers at any point, and some then fail in ways that have nothing to do with what the server did.
            error = e;
            outcome = dialect.Read(read);
            outcome = outcome == LockOutcome.Refused && cancellationToken.IsCancellationRequested ? LockOutcome.Cancelled : outcome;
        }

        if (error is null && outcome is LockOutcome.Acquired or LockOutcome.NotAcquired or LockOutcome.AlreadyHeld)
        {
            return (outcome, request.Scope == LockScope.Transaction ? dialect.TransactionOf(answer) : request.Fencing && outcome == LockOutcome.Acquired ? dialect.TokenOf(answer) : 0);
        }

        if (outcome == LockOutcome.TransactionAborted)
        {
            // Not even the savepoint was made, and there is nothing to undo.
            ThrowIfUnknownTransaction(error);
            ExceptionDispatchInfo.Throw(error!);
        }

        // The server may have answered, and a cancel of psqlODBC's thrown the answer away: then it has let go of the savepoint, too.
        var isInDoubt = outcome == LockOutcome.Unknown && request.InTransaction && !read.NotSent && cancellationToken.IsCancellationRequested;
        if (isInDoubt && request.Scope == LockScope.Transaction && _connection.State == ConnectionState.Open)
        {
            try
            {
                // What a transaction holds cannot be let go, and is granted to it again.
                var again = await _driver.Execute(_connection, transaction, dialect.Acquire(request with { Timeout = TimeSpan.Zero }), async, CancellationToken.None).ConfigureAwait(false);
                return dialect.Read(again) == LockOutcome.Acquired ? (LockOutcome.Acquired, dialect.TransactionOf(again)) : throw Cancelled(Key, error, cancellationToken);
            }
            catch (Exception e) when (e is not OperationCanceledException && _connection.State == ConnectionState.Open)
            {
                // It had not answered, and the transaction has failed; or a late cancel came.
            }
        }

        // What was not sent, because the cancel came first, has made no savepoint. Where that is not so, the undo fails, and costs the session.
        await Undo(dialect, request with { InTransaction = request.InTransaction && !read.NotSent }, outcome, error, isInDoubt, async).ConfigureAwait(false);
        switch (outcome)
        {
            case LockOutcome.NotAcquired:
                return (outcome, 0);
            case LockOutcome.Deadlock:
                var held = _session.Held();
                throw new LockDeadlockException(
                    $"The wait for lock '{Key}' was ended by the server to break a deadlock, and the lock is not acquired. "
                    + (held.Length == 0
                        ? "Try again."
                        : $"This session still holds {string.Join(", ", held)}: release it, so that the others can go on, then try again."),
                    error);
            case LockOutcome.Cancelled or LockOutcome.Unknown when cancellationToken.IsCancellationRequested:
                throw Cancelled(Key, error, cancellationToken);
            case LockOutcome.Cancelled:
                var holders = await TryReadHolders(async).ConfigureAwait(false);
                throw new LockNotAcquiredException(
                    $"The wait for lock '{Key}' was ended by the server before its time: a limit on statements (PostgreSQL's statement_timeout, MariaDB's max_statement_time) or an "
                    + "administrator's cancel. The lock is not acquired; wait with a timeout shorter than the limit, or raise the limit."
                    + (holders is null ? "" : $" Now {holders}."),
                    error)
                {
                    Holders = holders,
                };
            case LockOutcome.Unknown when error is ObjectDisposedException:
                throw Broke(error);
            default:
                ExceptionDispatchInfo.Throw(error ?? new LockException(
                    $"The server did not answer whether lock '{Key}' was taken, as {dialect.Name} does: something between changes its answers. The lock is not acquired; connect to the server directly."));
                return default;
        }
    }

    // A failed acquire may have been granted in the same instant, and the server is the only one who knows. What it cannot tell costs the session.
    private async ValueTask Undo(LockDialect dialect, LockRequest request, LockOutcome outcome, Exception? error, bool isInDoubt, bool async)
    {
        Exception? reason = error;
        var inSavepoint = request.InTransaction && !isInDoubt;
        if (_connection.State == ConnectionState.Open)
        {
            for (var attempt = 0; attempt < CancelAttempts; attempt++)
            {
                try
                {
                    await _driver.Execute(_connection, OpenTransaction, dialect.Undo(request with { InTransaction = inSavepoint }, outcome), async, CancellationToken.None).ConfigureAwait(false);
                    return;
                }
                catch (Exception e)
                {
                    reason = e;
                    var read = _driver.Read(e);
                    var failure = dialect.Read(read);
                    if ((failure == LockOutcome.NotAcquired && !isInDoubt) || (read.NotSent && error is not null && _driver.Read(error).NotSent))
                    {
                        // The server says that there is no savepoint, so that the wait never began; or nothing was sent, then or now.
                        return;
                    }

                    if (failure == LockOutcome.TransactionAborted && isInDoubt && !inSavepoint)
                    {
                        // It had not answered.
                        inSavepoint = true;
                        continue;
                    }

                    if (failure == LockOutcome.TransactionAborted && outcome is not (LockOutcome.Cancelled or LockOutcome.Unknown))
                    {
                        // Nothing is in doubt: the server said no. The transaction is the caller's to roll back.
                        ThrowIfUnknownTransaction(e);
                        return;
                    }

                    if (failure != LockOutcome.Cancelled)
                    {
                        break;
                    }
                }
            }
        }

        await EndSession(dialect, reason, async).ConfigureAwait(false);
    }

    private async ValueTask EndSession(LockDialect dialect, Exception? reason, bool async)
    {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html: insufficient_privilege
        if (reason is not null && _driver.Read(reason).SqlState == "42501")
        {
            Log.MayNotAsk(_logger, Key, reason);
        }
        else
        {
            Log.SessionEnded(_logger, Key, reason);
        }

        try
        {
            if (_connection.State == ConnectionState.Open && dialect.EndSession is { } statement)
            {
                await _driver.Execute(_connection, OpenTransaction, statement, async, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (Exception)
        {
            // Expected: the session ends before it can answer. Where it did not end, closing the connection does it.
        }

        _session.End();
        _driver.Discard(_connection);
    }

    // A lock that was lost must not be claimed once more; and the transaction of a hold may be another by now, since Npgsql uses its object again.
    private async ValueTask<bool> StillHolds(Hold hold, LockDialect dialect, LockRequest request, DbTransaction? transaction, bool async) =>
        (!_options.Reentrant && hold.Options.Scope == LockScope.Session)
        || Yes(await _driver.Execute(
            _connection, transaction, dialect.IsHeld(request with { Key = hold.Key, Shared = hold.Options.Shared, Scope = hold.Options.Scope }), async, CancellationToken.None).ConfigureAwait(false));

    // After a failure, over which nothing more may be thrown.
    private async ValueTask ForgetEnded(Hold[] holds, LockDialect dialect, LockRequest request, DbTransaction? transaction, bool async)
    {
        try
        {
            if (!await StillHolds(holds[0], dialect, request, transaction, async).ConfigureAwait(false))
            {
                Array.ForEach(holds, static hold => hold.Release());
            }
        }
        catch (Exception)
        {
            // The transaction has failed, and will be rolled back with what it holds.
        }
    }

    private static bool AreOfOneTransaction(Hold[] holds) =>
        holds.Length > 0 && holds[0].TransactionId is not 0 and var transactionId && Array.TrueForAll(holds, hold => hold.TransactionId == transactionId);

    // Of several keys that one is lost of, the others would stay.
    private async ValueTask LetGoOfTheRest(Hold hold, LockDialect dialect, DbTransaction? transaction, bool async)
    {
        if (hold.Key.IsSeveral)
        {
            try
            {
                await _driver.Execute(
                    _connection, transaction, dialect.Undo(new LockRequest(hold.Key, hold.Options.Shared), LockOutcome.Unknown), async, CancellationToken.None).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                await EndSession(dialect, e, async).ConfigureAwait(false);
            }
        }
    }

    // The server's own count stays at one.
    private bool AcquireAgain(Hold hold, LockIdentity identity, LockRequest request)
    {
        var reason = !identity.IsSameAs(hold.Identity) ? "the two share a key and are not one lock"
            : !_options.Reentrant ? "LockOptions.Reentrant is not set"
            : hold.Options.Shared && !_options.Shared ? "it is held shared, and an exclusive lock would wait for that"
            : hold.Options.Scope != _options.Scope ? "it is held with another scope"
            : null;
        if (reason is null)
        {
            hold.Count++;
            Take(hold);
            return true;
        }

        return request.Try
            ? false
            : throw new LockException(
                $"This connection already holds lock '{hold.Key}', and would wait for itself ({reason}): release it first, or use the lock that is held.");
    }

    private LockIdentity Identity(LockDialect dialect) => _identity is { } identity && identity.Dialect == dialect ? identity : _identity = new LockIdentity(dialect, Key);

    // What is asked again and again is said once.
    private LockStatement AcquireStatement(LockDialect dialect, in LockRequest request)
    {
        if (_acquire is not { } acquire || acquire.Request != request)
        {
            _acquire = acquire = (request, dialect.Acquire(request) with { MayPrepare = request.IsDirect, Comment = Comment });
        }

        return acquire.Statement;
    }

    private LockStatement ReleaseStatement(LockDialect dialect, in LockRequest request)
    {
        if (_release is not { } release || release.Request != request)
        {
            _release = release = (request, dialect.Release(request) with { MayPrepare = request.IsDirect });
        }

        return release.Statement;
    }

    private void Take(Hold hold)
    {
        _count = _hold == hold ? _count + 1 : 1;
        _hold = hold;
        _isGivenAnew = false;
        _errorHandled = false;
        _granted = _settings is null ? 0 : Stopwatch.GetTimestamp();
    }

    private ValueTask<bool> Release(bool async)
    {
        Enter();
        return ReleaseOne(async, exits: true);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<bool> ReleaseOne(bool async, bool exits = false)
    {
        try
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

            if (_connection.State != ConnectionState.Open)
            {
                return Lose(hold, null);
            }

            if (hold.Count > 1)
            {
                hold.Count--;
                _count--;
                return true;
            }

            var dialect = Dialect;
            var request = new LockRequest(Key, hold.Options.Shared, IsDirect: _session.Current.IsDirect);
            var transaction = OpenTransaction;
            var released = false;
            for (var attempt = 0; !released; attempt++)
            {
                try
                {
                    // After a cancel, which may have come before the release or just after it, "not held" means that it was let go the time before.
                    released = Yes(await _driver.Execute(_connection, transaction, ReleaseStatement(dialect, request), async, CancellationToken.None).ConfigureAwait(false))
                        || attempt > 0;
                    break;
                }
                catch (Exception e)
                {
                    var read = _driver.Read(e);
                    switch (dialect.Read(read))
                    {
                        case LockOutcome.ConnectionLost:
                        case var _ when _connection.State != ConnectionState.Open:
                            return Lose(hold, e);
                        case var _ when read.NotSent:
                            return await ReleaseFailed(hold, NotSent(e, "The lock is still held: release it again."), async).ConfigureAwait(false);
                        case LockOutcome.Cancelled when attempt < CancelAttempts:
                            continue;
                        case LockOutcome.TransactionAborted when transaction is not null && _options.RollbackOnError:
                            // The server takes nothing but a rollback now, and the transaction can come to nothing else.
                            await Rollback(async).ConfigureAwait(false);
                            return OpenTransaction is null && await ReleaseOne(async).ConfigureAwait(false);
                        case LockOutcome.TransactionAborted:
                            var aborted = new LockException(
                                $"Lock '{Key}' is still held: the transaction has failed, and the server refuses to unlock inside it. "
                                + (transaction is null
                                    ? "The lock does not know the transaction: give it to Lock.Transaction, roll it back, then release again."
                                    : "Roll it back (LockOptions.RollbackOnError is off), then release again."),
                                e);
                            return await ReleaseFailed(hold, aborted, async).ConfigureAwait(false);
                        default:
                            return await ReleaseFailed(hold, e, async).ConfigureAwait(false);
                    }
                }
            }

            if (!released)
            {
                return Lose(hold, null);
            }

            _count = 0;
            hold.Release();
            Log.Released(_logger, Key);
            if (transaction is not null && !_warnedOfCommit)
            {
                _warnedOfCommit = true;
                Log.ReleasedBeforeCommit(_logger, Key);
            }

            return true;
        }
        finally
        {
            if (exits)
            {
                Exit();
            }
        }
    }

    // After HandleError the caller's own exception is on its way, and nothing may be thrown over it.
    private bool Lose(Hold hold, Exception? error)
    {
        _count = 0;
        NoteLoss(hold, error);

        return _errorHandled ? false : throw Loss(error);
    }

    // After HandleError nobody would release it again, unless a transaction that the lock knows is the caller's to roll back first.
    private async ValueTask<bool> ReleaseFailed(Hold hold, Exception error, bool async)
    {
        if (!_errorHandled)
        {
            ExceptionDispatchInfo.Throw(error);
        }

        if (OpenTransaction is not null && !_options.RollbackOnError)
        {
            Log.ReleaseFailed(_logger, Key, error);
            return false;
        }

        await EndSession(Dialect, error, async).ConfigureAwait(false);
        return Lose(hold, error);
    }

    internal static OperationCanceledException Cancelled(LockKey key, Exception? error, CancellationToken cancellationToken) =>
        new($"The wait for lock '{key}' was cancelled. The lock is not acquired.", error, cancellationToken);

    private InvalidOperationException NotSent(Exception error, string state) => new(
        $"The provider did not send the command of lock '{Key}': {error.Message} Close an open reader; give an open transaction to Lock.Transaction. {state}", error);

    private LockException Broke(Exception? error) => new(
        $"The connection of lock '{Key}' broke while the lock was waited for. The lock is not acquired: open the connection again, then try again.", error);

    private LockLostException Loss(Exception? error) => new(
        $"Lock '{Key}' was lost: the server no longer held it for this connection, which was closed or whose session ended (EF Core closes its own after each operation, unless you opened it). "
        + "The work under the lock may not have been alone: check it.",
        error);

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

            Exception? error = null;
            try
            {
                var question = Question(Dialect.IsHeld(new LockRequest(Key, hold.Options.Shared)));
                if (Yes(await _driver.Execute(_connection, null, question, async, CancellationToken.None).ConfigureAwait(false)))
                {
                    return true;
                }
            }
            catch (Exception e) when (_connection.State == ConnectionState.Open && Dialect.Read(_driver.Read(e)) is not (LockOutcome.ConnectionLost or LockOutcome.Unknown))
            {
                // The server answers that it cannot say: somebody's cancel, a full lock table, a missing right. The session lives, and with it what it holds.
                return true;
            }
            catch (Exception e)
            {
                error = e;
            }

            NoteLoss(hold, error);
            if (error is null)
            {
                await LetGoOfTheRest(hold, Dialect, null, async).ConfigureAwait(false);
            }

            return false;
        }
        finally
        {
            Exit();
        }

        // The first question tells since when, so that this costs no round trip; it is not tried again, so that a server that refuses it
        // still answers the others.
        LockStatement Question(LockStatement isHeld)
        {
            var since = _isSinceTold ? null : _settings?.TellSince(Stopwatch.GetElapsedTime(_granted));
            _isSinceTold = true;
            return (since is null ? isHeld : new LockStatement([.. isHeld.Commands, .. since])) with { Comment = Comment };
        }
    }

    /// <summary>Makes the session last, which is the lock's own, and tells the lock there.</summary>
    internal async ValueTask<SessionSettings?> Keep(bool async, CancellationToken cancellationToken) =>
        _settings = await SessionSettings.Set(_connection, _driver, Dialect, _options, async, cancellationToken, Key).ConfigureAwait(false);

    /// <summary>Gets what is told of who acquires, beside the name, where that is told; null for nothing.</summary>
    internal string? Holder { get; init; }

    private string? Comment =>
        _comment ??= _options.ShowName ? ToldName.Comment(Key) + (Holder is null ? "" : ToldName.Comment(Holder)) : null;

    internal DbConnection Connection => _connection;

    internal LockScope Scope => _options.Scope;

    internal bool IsOnSqlServer => Dialect.SystemName == "microsoft.sql_server";

    /// <summary>Gets whether the hold, or the last one, was lost.</summary>
    internal bool IsLost => _hold is { IsLost: true };

    internal ILogger Logger => _logger;

    /// <summary>Counts the lock as lost, because the server has not confirmed it for too long.</summary>
    internal void Distrust()
    {
        if (_hold is { Stands: true } hold)
        {
            NoteLoss(hold, null);
        }
    }

    private void NoteLoss(Hold hold, Exception? error)
    {
        hold.Lose();
        Log.Lost(_logger, Key, error);
    }

    // What cannot be let go costs the session: nobody would release it later, and a pooled connection must not go back with it.
    private async ValueTask ReleaseOrEndSession(bool async)
    {
        if (!await ReleaseOne(async).ConfigureAwait(false)
            && IsHeld && _hold!.Options.Scope == LockScope.Session && _connection.State == ConnectionState.Open)
        {
            await EndSession(Dialect, null, async).ConfigureAwait(false);
        }
    }

    private ValueTask HandleError(Exception error, bool async)
    {
        ArgumentNullException.ThrowIfNull(error);
        _errorHandled = true;
        return Rollback(async);
    }

    private async ValueTask Rollback(bool async)
    {
        if (_options.RollbackOnError && OpenTransaction is { } transaction)
        {
            try
            {
                if (async)
                {
                    await transaction.RollbackAsync(CancellationToken.None).ConfigureAwait(false);
                }
                else
                {
                    transaction.Rollback();
                }
            }
            catch (Exception e)
            {
                Log.RollbackFailed(_logger, Key, e);
            }
        }
    }

    private async ValueTask<bool> Run(Func<CancellationToken, ValueTask> body, TimeSpan timeout, bool async, CancellationToken cancellationToken)
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

    // Nobody but this call knows when to release, so that a lock which cannot be let go costs the session.
    internal async ValueTask ReleaseAfterBody(bool async)
    {
        try
        {
            await Release(async).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not LockLostException && IsHeld && _hold!.Options.Scope == LockScope.Session)
        {
            await EndSession(Dialect, e, async).ConfigureAwait(false);
            throw new LockException(
                $"The body ran to its end, and lock '{Key}' could not be let go after it, so that the session was ended, with its transaction and its other locks: {e.Message} "
                + "Dispose every reader, and end every transaction that the lock does not know, in the body.",
                e);
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
                await ForgetEnded([hold], Dialect, new LockRequest(Key), OpenTransaction, async).ConfigureAwait(false);
                return;
            }

            _errorHandled = true;
            await ReleaseOrEndSession(async).ConfigureAwait(false);
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Acquires, and throws when the lock was held elsewhere for the whole timeout.</summary>
    internal async ValueTask AcquireOrThrow(TimeSpan? timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await Acquire(timeout ?? System.Threading.Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false))
        {
            throw await NotAcquired(timeout.GetValueOrDefault(), ", and the body did not run", "TryRun to skip it", async).ConfigureAwait(false);
        }
    }

    internal async ValueTask RunOrThrow(Func<CancellationToken, ValueTask> body, TimeSpan? timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await Run(body, timeout ?? System.Threading.Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false))
        {
            throw await NotAcquired(timeout.GetValueOrDefault(), ", and the body did not run", "TryRun to skip it", async).ConfigureAwait(false);
        }
    }

    /// <summary>Returns the exception for a timeout that is no answer to the caller; it says who holds the lock.</summary>
    internal async ValueTask<LockNotAcquiredException> NotAcquired(TimeSpan timeout, string meaning, string orElse, bool async) =>
        LockNotAcquiredException.Within(timeout, Key, meaning, null, await TryReadHolders(async).ConfigureAwait(false), orElse);

    private async ValueTask<LockHolders> GetHolders(bool async, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        Enter();
        try
        {
            CheckOpen();
            return await ReadHolders(async, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            Exit();
        }
    }

    private async ValueTask<LockHolders> ReadHolders(bool async, CancellationToken cancellationToken)
    {
        var dialect = Dialect;
        var transaction = OpenTransaction;
        var request = new LockRequest(Key, Scope: LockScope.Transaction, Timeout: System.Threading.Timeout.InfiniteTimeSpan, InTransaction: IsInTransaction);
        var statement = dialect.Holders(request)
            ?? throw new NotSupportedException($"DbLock does not know how to ask {dialect.Name} who holds a lock: ask the server's own tools.");
        try
        {
            return dialect.ReadHolders(Key, await _driver.Execute(_connection, transaction, statement, async, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception e) when (request.InTransaction && !_driver.Read(e).NotSent && dialect.Read(_driver.Read(e)) is LockOutcome.Refused or LockOutcome.Cancelled)
        {
            // Of several keys the undo would let go of those that are held.
            await _driver.Execute(_connection, transaction, dialect.Undo(request with { Key = Key.Keys[0] }, LockOutcome.NotAcquired), async, CancellationToken.None).ConfigureAwait(false);
            throw;
        }
    }

    // For a message about a failure, over which nothing more may be thrown.
    private async ValueTask<LockHolders?> TryReadHolders(bool async)
    {
        try
        {
            return await ReadHolders(async, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception)
        {
            return null;
        }
    }

    private async ValueTask Dispose(bool async)
    {
        if (_disposed)
        {
            return;
        }

        Enter();
        _disposed = true;
        try
        {
            if (!IsHeld || _hold!.Options.Scope == LockScope.Transaction)
            {
                return;
            }

            // What is thrown in a using would hide the caller's own exception.
            _errorHandled = true;
            _hold.Count -= _count - 1;
            _count = 1;
            await ReleaseOrEndSession(async).ConfigureAwait(false);
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
            throw new InvalidOperationException(
                $"Lock '{Key}' is in use by another call at this moment. A Lock, like its connection, serves one caller at a time: give each task its own connection and Lock.");
        }
    }

    private void Exit() => Volatile.Write(ref _inUse, 0);

    private void CheckOpen()
    {
        if (_connection.State != ConnectionState.Open)
        {
            throw new InvalidOperationException($"The connection of lock '{Key}' is {_connection.State}, not open: open it (again) first.");
        }
    }

    // A connection that is enlisted belongs to its transaction, with which a lock of transaction scope ends.
    private System.Transactions.Transaction? FindEnlistment()
    {
        var ambient = System.Transactions.Transaction.Current;
        if (HasOwnConnection || (ambient is null && (_options.Scope == LockScope.Session || OpenTransaction is not null)))
        {
            return null;
        }

        if (!_driver.TryFindEnlistment(_connection, out var enlisted) && ambient is not null)
        {
            throw new InvalidOperationException(
                $"A TransactionScope is open, and a {Wrapper.Innermost(_connection).GetType().FullName} does not tell whether it is enlisted in it, so that nobody can say what lock '{Key}' would "
                + "end with: acquire before the scope begins or under TransactionScopeOption.Suppress, or use a lock of a data source, or BeginTransaction and give the transaction to Lock.Transaction.");
        }

        // A scope inside another is enlisted as a copy, which is disposed before the transaction ends.
        var transaction = enlisted is null || enlisted.IsOpen() ? enlisted : enlisted == ambient ? ambient : null;
        if (transaction is not null && _options.Scope == LockScope.Session)
        {
            throw new InvalidOperationException(
                $"The connection of lock '{Key}' is enlisted in a TransactionScope, which keeps its session until the transaction ends, whatever becomes of the lock: set LockOptions.Scope to "
                + "LockScope.Transaction, so that the lock ends with it, or use a lock of a data source, or acquire before the connection is enlisted.");
        }

        return transaction?.Clone();
    }

    /// <summary>Refuses a timeout that cannot be waited for.</summary>
    /// <param name="timeout">The timeout.</param>
    /// <param name="key">The key.</param>
    /// <param name="longest">The longest finite one.</param>
    /// <param name="dialect">Whose longest it is; null for the pool's own.</param>
    internal static void CheckTimeout(TimeSpan timeout, LockKey key, TimeSpan longest, LockDialect? dialect)
    {
        if (timeout != System.Threading.Timeout.InfiniteTimeSpan && (timeout < TimeSpan.Zero || timeout > longest))
        {
            var why = dialect is null ? "" : $", the longest that {dialect.Name} can count";
            throw new ArgumentOutOfRangeException(nameof(timeout), timeout, $"A timeout for lock '{key}' must lie between zero and {longest}{why}, or be Timeout.InfiniteTimeSpan.");
        }
    }

    private void CheckFencing(DbTransaction? transaction, LockDialect dialect)
    {
        if (_options.Fencing && !dialect.HasFencing)
        {
            throw new NotSupportedException($"{dialect.Name} has no fencing tokens here: leave LockOptions.Fencing out.");
        }

        if (_options.Fencing && transaction is not null)
        {
            throw new InvalidOperationException(
                $"Lock '{Key}' cannot have a fencing token inside a transaction, whose number may be older than the grant: acquire it before the transaction begins.");
        }
    }

    private DbTransaction? CheckTransaction(TimeSpan timeout, LockDialect dialect)
    {
        var transaction = OpenTransaction;
        if (_options.Scope == LockScope.Transaction && !IsInTransaction)
        {
            throw new InvalidOperationException(
                $"Lock '{Key}' has transaction scope and no open transaction, and would be gone at once: begin one on its connection and give it to Lock.Transaction.");
        }

        if (dialect.TakesSnapshot && timeout != TimeSpan.Zero && !_warnedOfSnapshot
            && IsolationLevelOf(transaction, _enlisted) is (IsolationLevel.RepeatableRead or IsolationLevel.Serializable or IsolationLevel.Snapshot) and var level)
        {
            _warnedOfSnapshot = true;
            Log.OldSnapshot(_logger, Key, level);
        }

        return transaction;
    }

    private static IsolationLevel IsolationLevelOf(DbTransaction? transaction, System.Transactions.Transaction? enlisted) =>
        transaction?.IsolationLevel
        ?? enlisted?.IsolationLevel switch
        {
            System.Transactions.IsolationLevel.RepeatableRead => IsolationLevel.RepeatableRead,
            System.Transactions.IsolationLevel.Serializable => IsolationLevel.Serializable,
            System.Transactions.IsolationLevel.Snapshot => IsolationLevel.Snapshot,
            _ => IsolationLevel.Unspecified,
        };

    private void ThrowIfUnknownTransaction(Exception? error)
    {
        if (!IsInTransaction)
        {
            throw new LockException(
                $"Lock '{Key}' is not acquired, and its connection is in a transaction that the lock does not know and that has failed with the acquire: roll it back, and give the "
                + "next one to Lock.Transaction, so that a lock that is held elsewhere leaves it usable.",
                error);
        }
    }

    private static bool Yes(object? answer) => answer is not (null or DBNull) && Convert.ToInt64(answer, CultureInfo.InvariantCulture) == 1;
}
