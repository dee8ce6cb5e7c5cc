using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A lock on a connection that the caller has: acquire it, do the work, release it.</summary>
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

        Admission.CheckSlots(key, options.Shared || options.Reentrant, nameof(options));
        Leasing.Check(options, nameof(options));

        Key = key;
        var conversation = new Conversation(connection, Interface, key, options);
        Holding = options.Scope == LockScope.Lease ? new LeaseHolding(conversation)
            : key.SlotCount > 0 ? new SlotHolding(conversation) : new Holding(conversation);
        if (options.Logger is null)
        {
            // All that the finalizer does is to log.
            GC.SuppressFinalize(this);
        }
    }

    /// <summary>
    /// Logs that a lock is held and that nobody references it any more. It is not released: the connection is the caller's, who may mean to
    /// hold the lock until that closes.
    /// </summary>
    ~Lock()
    {
        // Only a hold of session scope is looked at: it has no transaction object, which a finalizer must not touch.
        if (Holding is { IsHeldForSession: true })
        {
            Log.Forgotten(Logger, Key);
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
        get => Conversation.GivenTransaction;
        set
        {
            var connection = Conversation.Connection;
            if (value is not null && value.IsOpen() && value.Connection is { } own && own != connection
                && Wrapper.Innermost(own) != Wrapper.Innermost(connection))
            {
                throw Refusals.ForeignTransaction(nameof(value));
            }

            Conversation.GivenTransaction = value;
            Holding.HasNewTransaction = true;
        }
    }

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool IsHeld => Holding.IsHeld;

    /// <summary>
    /// Gets a token of this hold that fires when it is noticed that the server no longer holds the lock for us: the connection was closed
    /// or broken, or a later call found the lock gone. Before the first acquire it is <see cref="CancellationToken.None"/>. A release does
    /// not fire it.
    /// </summary>
    public CancellationToken Lost => Holding.Lost;

    /// <summary>
    /// Gets the fencing token of this hold, or of the last one: it is larger than those of all holds of the lock before it, in every
    /// process, also over crashes and failovers of the server. Null without <see cref="LockOptions.Fencing"/>, and before the first
    /// acquire.
    /// </summary>
    public long? FencingToken => Holding.FencingToken;

    /// <summary>Gets which slot this hold has, or the last one had, from 1 (<see cref="LockKey.Slots"/>); null for none.</summary>
    public int? Slot => Holding.Slot;

    /// <summary>Gets whether the connection is the lock's own, opened outside of any TransactionScope.</summary>
    internal bool HasOwnConnection
    {
        get => Conversation.HasOwnConnection;
        init => Conversation.HasOwnConnection = value;
    }

    /// <summary>Gets or sets what is told of the program that acquires, in the comment after the lock's name; null for nothing.</summary>
    internal string? Holder
    {
        get => Conversation.Holder;
        init => Conversation.Holder = value;
    }

    internal DbConnection Connection => Conversation.Connection;

    private Conversation Conversation => Holding.Conversation;

    internal LockScope Scope => Conversation.Options.Scope;

    internal LockDialect Dialect => Conversation.Dialect;

    internal ILogger Logger => Conversation.Logger;

    /// <summary>Gets what the lock holds.</summary>
    internal Holding Holding { get; }

    /// <summary>Acquires the lock: waits for ever, or tries once.</summary>
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
    public bool Acquire(bool block = true) => Completed(Holding.Acquire(Timeout(block), async: false, CancellationToken.None));

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">From zero, which tries once, to about 24 days (136 years on MySQL and MariaDB), rounded up to what the engine
    /// counts in (milliseconds; seconds on MySQL); <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever.</param>
    /// <inheritdoc cref="Acquire(bool)" path="/returns"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is negative, or longer than the engine can count.</exception>
    public bool Acquire(TimeSpan timeout) => Completed(Holding.Acquire(timeout, async: false, CancellationToken.None));

    /// <summary>Acquires the lock: waits for ever, or tries once.</summary>
    /// <param name="block">True waits for ever; false tries once.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(bool)" path="/returns"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(bool block = true, CancellationToken cancellationToken = default) =>
        Holding.Acquire(Timeout(block), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting for ever.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="AcquireAsync(bool, CancellationToken)" path="/returns"/>
    /// <inheritdoc cref="AcquireAsync(bool, CancellationToken)" path="/exception"/>
    public ValueTask<bool> AcquireAsync(CancellationToken cancellationToken) =>
        Holding.Acquire(Timeout(block: true), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">As for <see cref="Acquire(TimeSpan)"/>.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/returns"/>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(TimeSpan timeout, CancellationToken cancellationToken = default) =>
        Holding.Acquire(timeout, async: true, cancellationToken);

    /// <summary>Lets go of the lock.</summary>
    /// <returns>
    /// True when this acquire was let go; false when the lock was not held, or ends with its transaction (also one that the lock does not
    /// know, in which it had to be waited for), or was lost after <see cref="HandleError(Exception)"/>.
    /// </returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    /// <exception cref="LockException">
    /// The transaction has failed and may not be rolled back here, so the server refuses to unlock: the lock is still held.
    /// </exception>
    public bool Release() => Completed(Holding.Release(async: false));

    /// <inheritdoc cref="Release()"/>
    public ValueTask<bool> ReleaseAsync() => Holding.Release(async: true);

    /// <summary>
    /// Throws when it has been noticed that this hold is lost; asks nobody. Call it before each step that must not be done twice.
    /// </summary>
    /// <exception cref="LockLostException">The server no longer holds the lock for us.</exception>
    public void ThrowIfLost()
    {
        if (Holding.IsLost)
        {
            throw Holding.Loss(null);
        }
    }

    /// <summary>
    /// Asks the server whether this session still holds the lock. Nothing is counted: as many releases are owed as before. A lock that is
    /// held no longer is lost from then on, as a release would have found; one of transaction scope may have ended with its savepoint.
    /// </summary>
    /// <returns>Whether the server says that it is held; false, without asking, when it is known not to be.</returns>
    /// <exception cref="InvalidOperationException">The connection is busy, or the lock is in use.</exception>
    /// <exception cref="LockException">The server cannot say, because the transaction has failed or a right is missing.</exception>
    /// <remarks>
    /// A server that has not answered for 15 seconds is given up, together with the connection, and the answer is false. In a REPEATABLE
    /// READ or SERIALIZABLE transaction the question takes the snapshot.
    /// </remarks>
    public bool IsHeldNow() => Completed(Holding.Confirm(async: false, orThrow: true));

    /// <inheritdoc cref="IsHeldNow()"/>
    /// <param name="cancellationToken">Cancels the question.</param>
    /// <exception cref="OperationCanceledException">The question was cancelled.</exception>
    public ValueTask<bool> IsHeldAsync(CancellationToken cancellationToken = default) =>
        Holding.Confirm(async: true, orThrow: true, cancellationToken);

    /// <summary>
    /// Renews a lease (<see cref="LockScope.Lease"/>): it lasts its whole <see cref="LockOptions.Lease"/> from now. Nobody else does that
    /// for a lease on a connection of the caller's. Call it three times in a lease's time, so that one failure costs nothing.
    /// </summary>
    /// <returns>True when it was renewed; false when it is not held by this lock: never acquired, or released.</returns>
    /// <exception cref="LockLostException">The lease was lost, because its time was over or its row was changed.</exception>
    /// <exception cref="LockException">It could not be renewed just now, and is held until its time is over.</exception>
    /// <exception cref="InvalidOperationException">
    /// The lock has no lease, the connection is closed, busy or in a transaction, or the lock is in use.
    /// </exception>
    public bool Renew() => Completed(Holding.Renew(async: false, CancellationToken.None));

    /// <inheritdoc cref="Renew()"/>
    /// <param name="cancellationToken">Ends the wait for the answer. The lease is held as before, or renewed.</param>
    /// <exception cref="OperationCanceledException">The call was cancelled.</exception>
    public ValueTask<bool> RenewAsync(CancellationToken cancellationToken = default) =>
        Holding.Renew(async: true, cancellationToken);

    /// <summary>Asks the server who holds the lock, this session included, and how many wait for it.</summary>
    /// <returns>The holders at the moment of the question: none when the lock is free.</returns>
    /// <exception cref="NotSupportedException">The dialect does not tell; PostgreSQL's does.</exception>
    /// <exception cref="InvalidOperationException">The connection is closed or busy, or the lock is in use.</exception>
    public LockHolders GetHolders() => Completed(Holding.GetHolders(async: false, CancellationToken.None));

    /// <inheritdoc cref="GetHolders()"/>
    /// <param name="cancellationToken">Cancels the question.</param>
    public ValueTask<LockHolders> GetHoldersAsync(CancellationToken cancellationToken = default) =>
        Holding.GetHolders(async: true, cancellationToken);

    /// <summary>
    /// Prepares the release after the work failed: rolls <see cref="Transaction"/> back, unless <see cref="LockOptions.RollbackOnError"/>
    /// is off. It does not throw, and the release that follows does not throw over the caller's own exception either.
    /// </summary>
    /// <param name="error">The work's exception.</param>
    public void HandleError(Exception error) => Completed(Holding.HandleError(error, async: false));

    /// <inheritdoc cref="HandleError(Exception)"/>
    public ValueTask HandleErrorAsync(Exception error) => Holding.HandleError(error, async: true);

    /// <summary>Runs a body under the lock: acquires, runs, rolls back on error, always releases.</summary>
    /// <param name="body">The body.</param>
    /// <param name="timeout">How long to wait for the lock; null waits for ever.</param>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout. The body did not run.</exception>
    /// <exception cref="LockLostException">The body ran to its end, but the lock was lost before.</exception>
    public void Run(Action body, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        Completed(Running.RunOrThrow(Holding, Running.Body(body), timeout, async: false, CancellationToken.None));
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
        return Running.RunOrThrow(Holding, Running.Body(body), timeout, async: true, cancellationToken).AsTask();
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
        return Completed(Running.Run(Holding, Running.Body(body), timeout, async: false, CancellationToken.None));
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
        return Running.Run(Holding, Running.Body(body), timeout, async: true, cancellationToken).AsTask();
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
        Completed(Holding.Dispose(async: false));
        GC.SuppressFinalize(this);
    }

    /// <inheritdoc cref="Dispose()"/>
    public async ValueTask DisposeAsync()
    {
        await Holding.Dispose(async: true).ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    private static TimeSpan Timeout(bool block) => block ? System.Threading.Timeout.InfiniteTimeSpan : TimeSpan.Zero;
}
