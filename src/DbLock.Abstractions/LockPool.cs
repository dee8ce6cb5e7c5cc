using System.Data.Common;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>Any number of locks for the tasks of a program, on one connection of a data source, and on a second one while tasks wait for another process.</summary>
/// <remarks>
/// <para>
/// What tasks ask for while the server is being asked travels together in the next round trip. Tasks that want the same key queue in memory, first come first served, and hand
/// it to each other without the server, until other processes have their turn: after 1,000 hand-overs or 50 milliseconds, whichever comes first.
/// </para>
/// <para>
/// The connection that carries locks never waits in the server. A task that waits for another process is tried again when a pool there rings (PostgreSQL's NOTIFY), and else at
/// an interval of 0.1 s that grows to 1 s while nothing changes (and is at least twenty times as long as the try took).
/// </para>
/// <para>
/// The server is asked twice a second whether it still holds as many locks as the pool believes. A session that was killed is noticed within a second; a network that has gone silent,
/// or a process that was paused, after 15 seconds without an answer: the locks count as lost then, and the pool goes on on another connection.
/// </para>
/// <para><b>Threads.</b> May be used from anywhere.</para>
/// <para><b>Cancellation.</b> A cancelled wait ends at once, or with the answer of the server where that is being asked: the lock is not held then.</para>
/// <para>
/// <b>Deadlocks.</b> Tasks of one pool that wait for each other for more than a second are found, and the last of them to begin gets <see cref="LockDeadlockException"/>. What a
/// task holds is what was acquired around it in the flow of its own method or of its callers; a task that was started under a lock counts as part of it. Cycles over several
/// processes, and over several pools, are not found: acquire in one order, together (<see cref="LockKey.All"/>), or with a timeout.
/// </para>
/// </remarks>
public sealed partial class LockPool : IDisposable, IAsyncDisposable
{
    // A fencing token has room for 1,023 grants in memory.
    private const int MostHandOvers = 1000;
    private const int MostHandOverMilliseconds = 50;
    private const int YieldMilliseconds = 5;
    private const int DrainMilliseconds = 100;
    private const int ShortestPoll = 100;
    private const int LongestPoll = 1000;

    // Who polls does so together.
    private const int PollGrid = 50;
    private const int MarkAgainMilliseconds = 100;
    private const int ListenAgainMilliseconds = 10_000;
    private const int LookAgainMilliseconds = 100;
    private const int TickMilliseconds = 250;
    private const int HeartbeatMilliseconds = 500;
    private const int DeadlockMilliseconds = 1000;
    private const int ListenMilliseconds = 5000;
    private const int MostPerStatement = 4096;

    // PostgreSQL takes less than 8,000 bytes in a notification: https://www.postgresql.org/docs/current/sql-notify.html
    private const int MostToTell = 7000;
    private const string Anything = "*";

    // A cancel of somebody else's, or a timeout of the server's, may hit a statement of many.
    private const int Attempts = 10;

    // What the pump is woken with: it says nothing, and is never written to.
    private static readonly PoolRound Beginning = new();

    private static readonly AsyncLocal<PoolRequest?> Innermost = new();
    private static readonly TimeSpan LongestTimeout = TimeSpan.FromMilliseconds(int.MaxValue);

    private readonly DbDataSource _dataSource;
    private readonly LockInterface? _interface;
    private readonly LockOptions _options;
    private readonly ILogger _logger;
    private readonly string _name = Guid.NewGuid().ToString("N")[..12];
    private readonly System.Threading.Lock _gate = new();
    private readonly Dictionary<(long, bool), PoolEntry> _entries = [];
    private readonly HashSet<PooledLock> _held = [];
    private readonly HashSet<PoolRequest> _elsewhere = [];
    private readonly Queue<PoolRequest> _asks = new();
    private readonly List<PoolEntry> _releases = [];
    private readonly List<PooledLock> _checks = [];
    private readonly List<(LockKey Key, TaskCompletionSource<LockHolders?> Answer)> _questions = [];
    private readonly Timer _timer;
    private readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Carrier? _carrier;
    private Carrier? _silent;
    private PoolRound? _round;
    private bool _isDisposed;
    private CancellationTokenSource? _bell;
    private Task _bellTask = Task.CompletedTask;
    private bool _isListening;
    private bool _cannotListen;
    private bool _isMarked;
    private long _lastElsewhere;
    private long _tickAt = long.MaxValue;
    private bool _othersListen;
    private long _markAfter;
    private long _listenAfter;
    private long _noRoomUntil;
    private long _allowed;
    private int _took;

    /// <summary>Initializes a new pool. Nothing is sent to the server.</summary>
    /// <param name="dataSource">Where its connections come from. It stays the caller's, and is disposed after the pool.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">
    /// <see cref="LockOptions.Dialect"/>, <see cref="LockOptions.TrustPooler"/>, <see cref="LockOptions.TelemetryKey"/> and <see cref="LockOptions.Logger"/>; the rest has no
    /// meaning for a pool, or is said of each lock.
    /// </param>
    /// <exception cref="ArgumentException">The options ask for what a pool has not: <see cref="LockOptions.Shared"/>, transaction scope or <see cref="LockOptions.Reentrant"/>.</exception>
    public LockPool(DbDataSource dataSource, LockInterface? lockInterface = null, LockOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        if (options is { Shared: true } or { Reentrant: true } or { Scope: LockScope.Transaction })
        {
            throw new ArgumentException("The locks of a pool are of session scope and not re-entrant, and each is said to be shared when it is acquired: leave these options out.", nameof(options));
        }

        _dataSource = dataSource;
        _interface = lockInterface;
        _options = options ?? LockOptions.Default;
        _logger = QuietLogger.Of(_options.Logger);
        using (ExecutionContext.SuppressFlow())
        {
            _timer = new Timer(static pool => ((LockPool)pool!).Tick(), this, Timeout.Infinite, Timeout.Infinite);
        }
    }

    /// <summary>Acquires a lock, waiting for it.</summary>
    /// <param name="key">The key; several (<see cref="LockKey.All"/>) are acquired all or none.</param>
    /// <param name="timeout">How long to wait, up to about 24 days; null and <see cref="Timeout.InfiniteTimeSpan"/> wait for ever, zero tries once.</param>
    /// <param name="shared">Whether others may hold it at the same time, if they too ask for it shared.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed.</returns>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout; the message says by whom.</exception>
    /// <exception cref="LockDeadlockException">Tasks of this pool waited for each other, and this one was ended.</exception>
    /// <exception cref="LockException">The server's locks cannot be trusted here, or it has no room for more.</exception>
    /// <exception cref="NotSupportedException">The server's dialect cannot carry locks; PostgreSQL's can.</exception>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<PooledLock> AcquireLockAsync(LockKey key, TimeSpan? timeout = null, bool shared = false, CancellationToken cancellationToken = default)
    {
        var wait = timeout ?? Timeout.InfiniteTimeSpan;
        var acquire = Acquire(key, wait, shared, cancellationToken);
        return wait == Timeout.InfiniteTimeSpan ? acquire! : Acquired(acquire);

        [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
        async ValueTask<PooledLock> Acquired(ValueTask<PooledLock?> acquire) =>
            await acquire.ConfigureAwait(false) ?? throw await NotAcquired(key, wait).ConfigureAwait(false);
    }

    /// <summary>Acquires a lock, or answers that it is held elsewhere.</summary>
    /// <param name="key">The key; several (<see cref="LockKey.All"/>) are acquired all or none.</param>
    /// <param name="timeout">How long to wait, up to about 24 days; zero (default) tries once.</param>
    /// <param name="shared">Whether others may hold it at the same time, if they too ask for it shared.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed; null when it was held elsewhere for the whole timeout.</returns>
    /// <inheritdoc cref="AcquireLockAsync" path="/exception[not(@cref='T:DbLock.LockNotAcquiredException')]"/>
    public ValueTask<PooledLock?> TryAcquireLockAsync(LockKey key, TimeSpan timeout = default, bool shared = false, CancellationToken cancellationToken = default) =>
        Acquire(key, timeout, shared, cancellationToken);

    /// <summary>
    /// Ends the pool: every wait gets <see cref="ObjectDisposedException"/>, every lock that is still held is let go and its <see cref="PooledLock.Lost"/> fires, and the connections
    /// go back to the data source.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        Dispose();
        await _closed.Task.ConfigureAwait(false);
    }

    /// <summary>Begins to end the pool, as <see cref="DisposeAsync"/> does, and waits for nothing.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (!_isDisposed)
            {
                _isDisposed = true;
                _ = _bell?.CancelAsync();
                WakePump();
            }
        }
    }

    /// <summary>Lets go of a lock.</summary>
    internal ValueTask<bool> Release(PooledLock held, bool orThrow)
    {
        CheckTrust();
        lock (_gate)
        {
            if (held.Request.State != PoolRequest.StateOf.Held)
            {
                return held is { IsLost: true, Released: null } ? Lost(held, orThrow) : new(false);
            }

            LetGo(held);
            if (held.Unlocking == 0 && orThrow)
            {
                // It was handed over in memory: whether the carrier was still there, its next answer tells.
                held.Unlocking = 1;
                _checks.Add(held);
                WakePump();
            }

            if (held.Unlocking > 0)
            {
                held.Released = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }
        }

        Tell(held, _carrier, Telemetry.Released);
        Log.Released(_logger, held.Key);
        return held.Released is null ? new(true) : Told(held, orThrow);

        async ValueTask<bool> Told(PooledLock held, bool orThrow)
        {
            await held.Released!.Task.ConfigureAwait(false);
            return !held.IsLost || await Lost(held, orThrow).ConfigureAwait(false);
        }
    }

    private static ValueTask<bool> Lost(PooledLock held, bool orThrow)
    {
        // It is said once.
        held.Released ??= new TaskCompletionSource();
        return orThrow ? throw Loss(held) : new(false);
    }

    internal static LockLostException Loss(PooledLock held) => new(
        $"Lock '{held.Key}' was lost: the server no longer held it for the pool's connection, whose session ended or fell silent. The work under the lock may not have been alone: check it.", null);

    // What follows the first await does not change the caller's flow, so the request is made before it.
    private ValueTask<PooledLock?> Acquire(LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(key);
        Admission.CheckTimeout(timeout, key, LongestTimeout, dialect: null);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<PooledLock?>(cancellationToken);
        }

        CheckTrust();
        var request = new PoolRequest(key, shared, timeout == TimeSpan.Zero, PoolRequest.NearestHeld(Innermost.Value));
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            Enqueue(request);
        }

        if (request.State != PoolRequest.StateOf.Over)
        {
            Innermost.Value = request;
        }

        // Thousands wait in this way: nothing but the request is kept for each of them.
        var isPlain = timeout == Timeout.InfiniteTimeSpan && !cancellationToken.CanBeCanceled && !_logger.IsEnabled(LogLevel.Debug);
        return Telemetry.HearsAcquires
            ? Telemetry.Tell(
                () => Wait(request, timeout, cancellationToken), static held => held is not null, () => (_carrier?.Connection.Database, _carrier?.Dialect), key, _options with { Shared = shared })
            : isPlain ? new(request.Task) : Wait(request, timeout, cancellationToken);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<PooledLock?> Wait(PoolRequest request, TimeSpan timeout, CancellationToken cancellationToken)
    {
        // A try ends when the server has answered.
        Task answer = request.Task.WaitAsync(request.IsTry ? Timeout.InfiniteTimeSpan : timeout, cancellationToken);
        await answer.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!request.Task.IsCompleted)
        {
            Abandon(request);
        }

        var held = await request.Task.ConfigureAwait(false);
        if (held is null && request.IsAbandoned && cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(request.Key, null, cancellationToken);
        }

        if (held is null)
        {
            Log.NotAcquired(_logger, request.Key);
        }
        else
        {
            Log.Acquired(_logger, request.Key);
        }

        return held;
    }

    private async ValueTask<LockNotAcquiredException> NotAcquired(LockKey key, TimeSpan timeout)
    {
        var question = new TaskCompletionSource<LockHolders?>(TaskCreationOptions.RunContinuationsAsynchronously);
        bool isHere;
        lock (_gate)
        {
            isHere = key.Keys.Any(one => _entries.TryGetValue((one.Number, one.IsPair), out var entry) && entry.Holders > 0);
            if (isHere || _isDisposed)
            {
                question.SetResult(null);
            }
            else
            {
                _questions.Add((key, question));
                WakePump();
            }
        }

        var holders = await question.Task.ConfigureAwait(false);
        return LockNotAcquiredException.Within(timeout, key, "", isHere ? "it is held by another task of this pool" : null, holders, "TryAcquireLockAsync to go on without it");
    }

    private void Tell(PooledLock held, Carrier? carrier, string outcome)
    {
        if (Telemetry.HearsHolds)
        {
            Telemetry.Held(carrier?.Connection.Database, carrier?.Dialect, held.Key, _options with { Shared = held.Request.Shared }, held.Start, outcome);
        }
    }
}
