using System.Data.Common;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// Any number of locks for the tasks of a program, on one connection of a data source, and on a second one while tasks wait for another
/// process.
/// </summary>
/// <remarks>
/// <para>
/// What tasks ask for while the server is being asked travels together in the next round trip. Tasks that want the same key queue in
/// memory, first come first served, and hand it to each other without the server, until other processes have their turn: after 1,000
/// hand-overs or 50 milliseconds, whichever comes first.
/// </para>
/// <para>
/// The connection that carries locks never waits in the server. A task that waits for another process is tried again when a pool there
/// rings (PostgreSQL's NOTIFY), and else at an interval of 0.1 s that grows to 1 s while nothing changes (and is at least twenty times as
/// long as the try took).
/// </para>
/// <para>
/// The server is asked twice a second whether it still holds as many locks as the pool believes. A session that was killed is noticed
/// within a second; a network that has gone silent, or a process that was paused, after 15 seconds without an answer: the locks count as
/// lost then, and the pool goes on on another connection. Leases (<see cref="LockPoolOptions.Scope"/>) need no connection between rounds.
/// </para>
/// <para><b>Threads.</b> May be used from anywhere.</para>
/// <para>
/// <b>Cancellation.</b> A cancelled wait ends at once, or with the answer of the server where that is being asked, half a second later at
/// most: the lock is not held then.
/// </para>
/// <para>
/// <b>Deadlocks.</b> Tasks of one pool that wait for each other for more than a second are found, and the last of them to begin gets
/// <see cref="LockDeadlockException"/>. What a task holds is what was acquired around it in the flow of its own method or of its callers; a
/// task that was started under a lock counts as part of it. A wait for what was acquired around it is no deadlock, because another task may
/// let go of it; it is logged as a warning. Cycles over several processes, and over several pools, are not found: acquire in one order,
/// together (<see cref="LockKey.All"/>), or with a timeout.
/// </para>
/// </remarks>
public sealed class LockPool : ILockSource, IPoolOwner, IDisposable, IAsyncDisposable
{
    private static readonly TimeSpan LongestTimeout = TimeSpan.FromMilliseconds(int.MaxValue);
    private static readonly TimeSpan LongestEnd = TimeSpan.FromSeconds(10);
    private static readonly long TickEvery = TimeSpan.FromMilliseconds(250).Ticks;
    private static readonly long ListenOn = TimeSpan.FromSeconds(5).Ticks;

    private readonly LockOptions _options;
    private readonly ILogger _logger;
    private readonly PoolSource _source;
    private readonly PoolQueue _queue;
    private readonly PoolAnswers _answers;
    private readonly PoolLosses _losses;
    private readonly PoolReports _reports;
    private readonly PoolBell _bell;
    private readonly PoolHolders _holders;
    private readonly ITimer _timer;
    private readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private IPoolPump _pump;
    private bool _isDisposed;
    private bool _isKept;
    private long _tickAt = long.MaxValue;
    private long _searchAt;

    /// <summary>Initializes a new pool. Nothing is sent to the server.</summary>
    /// <param name="dataSource">Where its connections come from. It stays the caller's, and is disposed after the pool.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How its locks are held; null leaves every default.</param>
    /// <exception cref="ArgumentException">The options ask for transaction scope, or for leases that cannot be.</exception>
    public LockPool(DbDataSource dataSource, LockInterface? lockInterface = null, LockPoolOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        _options = options?.ToLockOptions(nameof(options)) ?? LockOptions.Default;
        _logger = QuietLogger.Of(_options.Logger);
        _source = new PoolSource(dataSource, lockInterface, _options);
        _queue = new PoolQueue(TimeProvider.System, this);
        _reports = new PoolReports(_options);
        _answers = new PoolAnswers(_queue, (request, error) => PoolReports.NoRoom(request, _queue.Lines.Held.Count, error));
        _losses = new PoolLosses(_queue, _answers);
        _bell = new PoolBell(dataSource, _options, _queue, ((IPoolOwner)this).Follow);
        _holders = new PoolHolders((keys, cancellationToken) => _pump!.AskHolders(keys, cancellationToken));
        _pump = _options.Scope == LockScope.Lease
            ? new LeasePump(dataSource, lockInterface, _options, this, _queue, _answers, _losses, _reports)
            : new PoolPump(_source, this, _queue, _answers, _losses, _bell, _reports);
        _queue.Owner = _pump;
        using (ExecutionContext.SuppressFlow())
        {
            _timer = TimeProvider.System.CreateTimer(
                static pool => ((LockPool)pool!).Tick(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>Gets how many locks are held, and how old the carrier's last answer is; null when there is no carrier.</summary>
    internal (int Held, TimeSpan? Answered) State => (_queue.Lines.Held.Count, _pump.Carrier?.Age);

    /// <summary>Acquires a lock, waiting for it; throws when the timeout is over.</summary>
    /// <param name="key">The key; several (<see cref="LockKey.All"/>) are acquired all or none.</param>
    /// <param name="timeout">
    /// How long to wait, up to about 24 days; null and <see cref="Timeout.InfiniteTimeSpan"/> wait for ever, zero tries once.
    /// </param>
    /// <param name="shared">Whether others may hold it at the same time, if they too ask for it shared.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed.</returns>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout; the message says by whom.</exception>
    /// <exception cref="LockDeadlockException">Tasks of this pool waited for each other, and this one was ended.</exception>
    /// <exception cref="LockException">
    /// The server's locks cannot be trusted here, or it has no room for more, or it could not be asked within the timeout, so that nobody
    /// knows whether the lock is held.
    /// </exception>
    /// <exception cref="ArgumentException">A shared lock was asked for in a pool with fencing tokens.</exception>
    /// <exception cref="NotSupportedException">The server's dialect cannot carry such locks (lock-pool.md says what each can).</exception>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<PooledLock> AcquireLockAsync(
        LockKey key, TimeSpan? timeout = null, bool shared = false, CancellationToken cancellationToken = default)
    {
        var wait = timeout ?? Timeout.InfiniteTimeSpan;
        var acquire = Acquire(key, wait, shared, cancellationToken);
        return wait == Timeout.InfiniteTimeSpan ? acquire! : Acquired(acquire, key, wait);
    }

    /// <summary>Acquires a lock, or answers null when it is held elsewhere; tries once unless it is given a timeout.</summary>
    /// <param name="key">The key; several (<see cref="LockKey.All"/>) are acquired all or none.</param>
    /// <param name="timeout">How long to wait, up to about 24 days; zero (default) tries once.</param>
    /// <param name="shared">Whether others may hold it at the same time, if they too ask for it shared.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock, held until it is disposed; null when it was held elsewhere for the whole timeout.</returns>
    /// <inheritdoc cref="AcquireLockAsync" path="/exception[not(@cref='T:DbLock.LockNotAcquiredException')]"/>
    public ValueTask<PooledLock?> TryAcquireLockAsync(
        LockKey key, TimeSpan timeout = default, bool shared = false, CancellationToken cancellationToken = default) =>
        Acquire(key, timeout, shared, cancellationToken);

    bool IPoolOwner.IsKept { get => _isKept; set => _isKept = value; }

    // These are no async methods: what an async method changes in the caller's flow is undone when it returns.
    ValueTask<IHeldLock> ILockSource.AcquireLockAsync(LockKey key, TimeSpan? timeout, bool shared, CancellationToken cancellationToken) =>
        ToHeld(AcquireLockAsync(key, timeout, shared, cancellationToken)!)!;

    ValueTask<IHeldLock?> ILockSource.TryAcquireLockAsync(
        LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken) =>
        ToHeld(TryAcquireLockAsync(key, timeout, shared, cancellationToken));

    /// <summary>
    /// Ends the pool: every wait gets <see cref="ObjectDisposedException"/>, every lock that is still held is let go and its <see
    /// cref="PooledLock.Lost"/> fires, and the connections go back to the data source.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        Dispose();
        await (_isKept ? Task.CompletedTask : _closed.Task).ConfigureAwait(false);
    }

    /// <summary>Begins to end the pool, as <see cref="DisposeAsync"/> does, and waits for nothing.</summary>
    public void Dispose()
    {
        if (!_isKept && !Interlocked.Exchange(ref _isDisposed, true))
        {
            _ = End();
        }
    }

    ValueTask<bool> IPoolOwner.Release(PoolHold hold, bool orThrow)
    {
        CheckTrust();
        var released = new PoolPromise<bool>();
        if (!_queue.Release(hold, released, isConfirmed: orThrow))
        {
            return hold is { IsLost: true, IsLossTold: false } ? hold.TellLoss(orThrow) : new(false);
        }

        _reports.Released(hold, _pump.Where);
        Follow(released);
        return orThrow ? Told(released.Answer, hold) : released.Answer;

        [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
        static async ValueTask<bool> Told(ValueTask<bool> released, PoolHold hold) =>
            await released.ConfigureAwait(false) || await hold.TellLoss(orThrow: true).ConfigureAwait(false);
    }

    void IPoolOwner.CheckTrust() => CheckTrust();

    void IPoolOwner.Abandon(PoolHold hold)
    {
        if (hold.IsHeld)
        {
            ThreadPool.UnsafeQueueUserWorkItem(
                static abandoned => abandoned.Pool.LetGoOfAbandoned(abandoned.Hold), (Pool: this, Hold: hold), preferLocal: false);
        }
    }

    void IPoolOwner.Follow() => Follow(null);

    private static async ValueTask<IHeldLock?> ToHeld(ValueTask<PooledLock?> acquire) => await acquire.ConfigureAwait(false);

    // The request is made before the first await, because what happens after an await does not change the caller's flow.
    private ValueTask<PooledLock?> Acquire(LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(key);
        Admission.CheckTimeout(timeout, key, LongestTimeout, dialect: null);
        _reports.CheckRequest(key, shared, nameof(shared));
        if (cancellationToken.IsCancellationRequested || key.SlotCount > 0)
        {
            return key.SlotCount == 0 ? ValueTask.FromCanceled<PooledLock?>(cancellationToken) : PoolSlots.Acquire(
                (slot, wait, token) => Acquire(slot, wait, shared: false, token), key, timeout, shared, cancellationToken);
        }

        CheckTrust();
        var request = new PoolRequest(key, shared, isTry: timeout == TimeSpan.Zero, PoolFlow.Begin());
        ObjectDisposedException.ThrowIf(!_queue.Enqueue(request, request.IsTry ? TrustWindow.Length : timeout), this);
        request.Flow.Enter();

        Follow(request);

        // Thousands of tasks may wait in this way, so that nothing but the request is kept for each of them.
        var isPlain = !cancellationToken.CanBeCanceled && !_logger.IsEnabled(LogLevel.Debug);
        return Telemetry.HearsAcquires ? Tell(request, cancellationToken)
            : isPlain ? request.Answer : Wait(request, cancellationToken);
    }

    private ValueTask<PooledLock?> Tell(PoolRequest request, CancellationToken cancellationToken) => Telemetry.Tell(
        () => Wait(request, cancellationToken), static held => held is not null,
        () => _pump.Where, request.Key, _options with { Shared = request.Shared });

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<PooledLock?> Wait(PoolRequest request, CancellationToken cancellationToken)
    {
        var registration = cancellationToken.UnsafeRegister(
            static wait =>
            {
                var (pool, request) = ((LockPool, PoolRequest))wait!;
                pool._queue.Cancel(request);
                pool.Follow(null);
            },
            (this, request));
        PooledLock? held;
        try
        {
            held = await request.Answer.ConfigureAwait(false);
        }
        finally
        {
            registration.Unregister();
        }

        if (held is null && request.IsCancelled)
        {
            throw Refusals.Cancelled(request.Key, null, cancellationToken);
        }

        if (held is null)
        {
            Log.NotAcquired(_logger, request.Key);
            return null;
        }

        Log.Acquired(_logger, request.Key);
        return held;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<PooledLock> Acquired(ValueTask<PooledLock?> acquire, LockKey key, TimeSpan timeout) =>
        await acquire.ConfigureAwait(false) ?? throw await NotAcquired(key, timeout).ConfigureAwait(false);

    private async ValueTask<LockNotAcquiredException> NotAcquired(LockKey key, TimeSpan timeout)
    {
        bool isHere;
        lock (_queue.Gate)
        {
            isHere = key.OnServer.Keys.Any(one => _queue.Lines.Find((one.Number, one.IsPair)) is { Holders: > 0 });
        }

        var holders = isHere || _isDisposed ? null : await _holders.Ask(key.OnServer).ConfigureAwait(false);
        return LockNotAcquiredException.Within(
            timeout, key, "", isHere ? "it is held by another task of this pool" : null, holders,
            "TryAcquireLockAsync to go on without it");
    }

    // Is called after each change of the queue. The caller who made the change may speak to the server on its own thread.
    private void Follow(PoolPromise? caller)
    {
        lock (_queue.Gate)
        {
            if (_queue.WaitsElsewhere && _pump.Carrier is { } carrier)
            {
                _bell.Listen(carrier);
            }

            // While anything is held or waited for, the timer fires every quarter of a second, or earlier when something is due.
            if ((_tickAt == long.MaxValue || _queue.NextDue < _tickAt) && !_closed.Task.IsCompleted)
            {
                var isActive = _queue.Lines.Entries.Count > 0 || _pump.Carrier is not null || _bell.IsActive;
                _tickAt = Math.Min(_queue.NextDue, isActive ? _queue.Now + TickEvery : long.MaxValue);
                if (_tickAt != long.MaxValue)
                {
                    var wait = TimeSpan.FromTicks(Math.Max(0, _tickAt - _queue.Now)).TotalMilliseconds;
                    _timer.Change(TimeSpan.FromMilliseconds(Math.Ceiling(wait)), Timeout.InfiniteTimeSpan);
                }
            }

            if (_queue.Outbox.IsEmpty && _bell.IsListening == _pump.IsMarked)
            {
                return;
            }
        }

        _pump.Wake(caller);
    }

    private void Tick()
    {
        CheckTrust();
        _queue.Tick();
        lock (_queue.Gate)
        {
            _tickAt = long.MaxValue;
            var now = _queue.Now;
            if (!_queue.WaitsElsewhere && _bell.IsListening && now - _queue.LastElsewhere >= ListenOn)
            {
                _bell.Stop();
            }

            if (now >= _searchAt)
            {
                _searchAt = now + TickEvery;
                var since = now - PoolDeadlocks.Patience;
                if (PoolDeadlocks.Find(_queue.Lines, since, request => Log.MayWaitForItself(_logger, request.Key)) is { } victim)
                {
                    _queue.Break(victim, PoolDeadlocks.Error(victim));
                }
            }
        }

        if (_pump.Carrier is not null)
        {
            _pump.Wake();
        }

        Follow(null);
    }

    // Gives up the carrier, with everything that it holds, if its server has not answered for too long. Another takes its place.
    private void CheckTrust()
    {
        // This is called often, and mostly has only to look at the clock.
        var pump = _pump;
        if (pump.Carrier is not { MayBeSilent: true } silent)
        {
            return;
        }

        List<PoolHold> lost;
        var error = Carrier.Silence();
        lock (_queue.Gate)
        {
            if (_isDisposed || _pump != pump || pump.Carrier != silent || !silent.IsSilent(_queue.HasHolds))
            {
                return;
            }

            _pump = new PoolPump(_source, this, _queue, _answers, _losses, _bell, _reports) { Before = silent };
            lost = _losses.LoseAll(pump, _pump, error);
            _bell.Stop();
        }

        PoolPump.Discard(silent);
        _reports.Lost(lost, silent.Where, error);
        Follow(null);
    }

    private void LetGoOfAbandoned(PoolHold hold)
    {
        if (_queue.Release(hold, new PoolPromise<bool>(), isConfirmed: false))
        {
            _reports.Abandoned(hold, _pump.Where);
            Follow(null);
        }
    }

    private async Task End()
    {
        using var limit = new CancellationTokenSource(LongestEnd);
        _queue.Close(static request => new ObjectDisposedException(
            typeof(LockPool).FullName,
            $"The pool was disposed while lock '{request.Key}' was waited for: it is not acquired. Dispose the pool when nobody uses it "
            + "any more."));
        lock (_queue.Gate)
        {
            _bell.Stop(forGood: true);
        }

        var (pump, where) = (_pump, _pump.Where);
        _losses.TellAll(pump);
        var isClean = await pump.End(limit.Token).ConfigureAwait(false);
        _reports.Lost(_losses.LoseAll(pump, null, new ObjectDisposedException(nameof(LockPool)), isClean), where, null);
        await _bell.Ended.WaitAsync(limit.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        lock (_queue.Gate)
        {
            _timer.Dispose();
            _closed.TrySetResult();
        }
    }
}
