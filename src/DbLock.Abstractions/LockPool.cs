using System.Data;
using System.Data.Common;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
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
/// <para><b>Threads.</b> May be used from anywhere.</para>
/// <para><b>Cancellation.</b> A cancelled wait ends at once, or with the answer of the server where that is being asked: the lock is not held then.</para>
/// <para>
/// <b>Deadlocks.</b> Tasks of one pool that wait for each other for more than a second are found, and the last of them to begin gets <see cref="LockDeadlockException"/>. What a
/// task holds is what was acquired around it in the flow of its own method or of its callers; a task that was started under a lock counts as part of it. Cycles over several
/// processes, and over several pools, are not found: acquire in one order, together (<see cref="LockKey.All"/>), or with a timeout.
/// </para>
/// </remarks>
public sealed class LockPool : IDisposable, IAsyncDisposable
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
    private const int HeartbeatMilliseconds = 1000;
    private const int DeadlockMilliseconds = 1000;
    private const int ListenMilliseconds = 5000;
    private const int MostPerStatement = 4096;

    // PostgreSQL takes less than 8,000 bytes in a notification: https://www.postgresql.org/docs/current/sql-notify.html
    private const int MostToTell = 7000;
    private const string Anything = "*";

    // A cancel of somebody else's, or a timeout of the server's, may hit a statement of many.
    private const int Attempts = 10;

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
    private PoolRound? _round;
    private bool _isPumping;
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
                _timer.Dispose();
                WakePump();
            }
        }
    }

    /// <summary>Lets go of a lock.</summary>
    internal ValueTask<bool> Release(PooledLock held, bool orThrow)
    {
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

        Tell(held, Telemetry.Released);
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
        return orThrow
            ? throw new LockLostException(
                $"Lock '{held.Key}' was lost: the server no longer held it for the pool's connection, whose session ended. The work under the lock may not have been alone: check it.", null)
            : new(false);
    }

    // What follows the first await does not change the caller's flow, so the request is made before it.
    private ValueTask<PooledLock?> Acquire(LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(key);
        if (timeout != Timeout.InfiniteTimeSpan && (timeout < TimeSpan.Zero || timeout > LongestTimeout))
        {
            throw new ArgumentOutOfRangeException(nameof(timeout), timeout, $"A timeout for lock '{key}' must lie between zero and {LongestTimeout}, or be Timeout.InfiniteTimeSpan.");
        }

        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<PooledLock?>(cancellationToken);
        }

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
            throw new OperationCanceledException($"The wait for lock '{request.Key}' was cancelled. The lock is not acquired.", cancellationToken);
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

    private void Enqueue(PoolRequest request)
    {
        request.Places =
        [
            .. request.Key.Keys.Select(key => (key.Number, key.IsPair)).Distinct().Select(
                key => new PoolPlace(request, _entries.TryGetValue(key, out var entry) ? entry : _entries[key] = new PoolEntry(key.Number, key.IsPair))),
        ];
        if (request.IsTry && Array.Exists(request.Places, place => place.Entry.First is not null || (place.Entry.Holders > 0 && !MayJoin(place.Entry, request))))
        {
            request.State = PoolRequest.StateOf.Over;
            request.TrySetResult(null);
            Array.ForEach(request.Places, place => Forget(place.Entry));
            return;
        }

        foreach (var place in request.Places)
        {
            place.Entry.Add(place);
        }

        Advance(request.Places[0].Entry);
    }

    // Whoever is first everywhere is granted what the pool has, or asks the server for the rest.
    private void Advance(PoolEntry entry)
    {
        while (entry.First?.Request is { State: PoolRequest.StateOf.Queued } first && Start(first))
        {
        }

        Forget(entry);
    }

    // A turn that others wait for the end of is remembered, though nobody here may want the key just now.
    private void Forget(PoolEntry entry)
    {
        if (entry is { Server: PoolEntry.OnServer.None, First: null } && Environment.TickCount64 >= entry.NotBefore && (entry.TurnStart == 0 || !MayHandOver(entry)))
        {
            _entries.Remove(entry.Identity);
        }
    }

    /// <returns>Whether it was granted, so that the next may be.</returns>
    private bool Start(PoolRequest request)
    {
        var (asks, now, due) = (false, Environment.TickCount64, 0L);
        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.First != place || (entry.Server != PoolEntry.OnServer.None && !MayJoin(entry, request)))
            {
                if (request.IsTry && entry.Server == PoolEntry.OnServer.Held)
                {
                    GiveUp(request);
                }

                return false;
            }

            asks |= entry.Server == PoolEntry.OnServer.None;
            if (entry.Server == PoolEntry.OnServer.Held && _othersListen && !request.IsTry && !MayHandOver(entry))
            {
                // Those who share it now may come to an end, if no more come: that is another process's turn. If they do not, nothing is gained by waiting on.
                var isOver = entry.NotBefore != 0 && now >= entry.NotBefore;
                (entry.NotBefore, entry.TurnStart, entry.HandOvers) = isOver ? (0L, now, 0) : (entry.NotBefore == 0 ? now + DrainMilliseconds : entry.NotBefore, entry.TurnStart, entry.HandOvers);
            }

            due = Math.Max(due, entry.NotBefore);
        }

        if (due > now && !request.IsTry)
        {
            WaitElsewhere(request, due);
            return false;
        }

        foreach (var entry in request.Places.Select(place => place.Entry))
        {
            if (entry.Server == PoolEntry.OnServer.None)
            {
                (entry.Server, entry.Shared) = (PoolEntry.OnServer.Asked, request.Shared);
            }
            else
            {
                entry.Holders++;
                entry.HandOvers++;
            }
        }

        if (!asks)
        {
            Grant(request);
            return true;
        }

        request.State = PoolRequest.StateOf.Asked;
        _asks.Enqueue(request);
        WakePump();
        return false;
    }

    private static bool MayJoin(PoolEntry entry, PoolRequest request) => entry.Server == PoolEntry.OnServer.Held && entry.Shared && request.Shared;

    private static bool MayHandOver(PoolEntry entry) => entry.HandOvers < MostHandOvers && Environment.TickCount64 - entry.TurnStart < MostHandOverMilliseconds;

    private void Grant(PoolRequest request)
    {
        foreach (var place in request.Places)
        {
            place.Entry.Remove(place);
        }

        request.State = PoolRequest.StateOf.Held;
        var token = request.Places.Max(place => place.Entry.Token);
        var held = new PooledLock(this, request, token);
        Array.ForEach(request.Places, place => place.Entry.Token = token);
        _held.Add(held);
        request.SetResult(held);
    }

    private void LetGo(PooledLock held)
    {
        _held.Remove(held);
        held.Request.State = PoolRequest.StateOf.Over;
        foreach (var entry in held.Request.Places.Select(place => place.Entry))
        {
            if (--entry.Holders == 0)
            {
                Settle(entry, held);
            }
        }
    }

    // Nobody here holds it any more, and the carrier does.
    private void Settle(PoolEntry entry, PooledLock? held)
    {
        if (entry.First?.Request is { State: PoolRequest.StateOf.Queued, Places.Length: 1 } next && next.Shared == entry.Shared && MayHandOver(entry))
        {
            (entry.Holders, entry.HandOvers, entry.Token) = (1, entry.HandOvers + 1, entry.Token == 0 ? 0 : entry.Token + 1);
            Grant(next);
            Advance(entry);
            return;
        }

        entry.Server = PoolEntry.OnServer.Releasing;
        entry.ReleasedBy = held;
        if (held is not null)
        {
            held.Unlocking++;
        }

        _releases.Add(entry);
        WakePump();
    }

    // A request that has ended without a hold leaves its queues, and the next may come first.
    private void Leave(PoolRequest request)
    {
        StopPolling(request);
        request.State = PoolRequest.StateOf.Over;
        foreach (var place in request.Places)
        {
            place.Entry.Remove(place);
        }

        foreach (var entry in request.Places.Select(place => place.Entry))
        {
            Advance(entry);
        }
    }

    private void StopPolling(PoolRequest request)
    {
        if (_elsewhere.Remove(request) && _elsewhere.Count == 0)
        {
            _lastElsewhere = Environment.TickCount64;
        }
    }

    // What the server is being asked at this moment, its answer ends.
    private void Abandon(PoolRequest request)
    {
        lock (_gate)
        {
            if (request.Task.IsCompleted)
            {
                return;
            }

            request.IsAbandoned = true;
            if (request is { State: PoolRequest.StateOf.Asked, IsSent: false })
            {
                Unask(request);
            }

            if (!request.IsSent)
            {
                GiveUp(request);
            }
        }
    }

    private void GiveUp(PoolRequest request)
    {
        Leave(request);
        request.TrySetResult(null);
    }

    private void Fail(PoolRequest request, Exception error)
    {
        Leave(request);
        request.TrySetException(error);
    }

    // Everybody who waits, when there is no session or it ends: what the server was asked for is nobody's.
    private void FailAll(Func<PoolRequest, Exception> error)
    {
        PoolRequest[] waiting = [.. _entries.Values.SelectMany(PoolDeadlock.Queue).Distinct()];
        _asks.Clear();
        foreach (var request in waiting)
        {
            StopPolling(request);
            request.State = PoolRequest.StateOf.Over;
            request.TrySetException(error(request));
        }

        foreach (var place in waiting.SelectMany(request => request.Places))
        {
            var entry = place.Entry;
            entry.Remove(place);
            entry.Server = entry.Server == PoolEntry.OnServer.Asked ? PoolEntry.OnServer.None : entry.Server;
            Forget(entry);
        }
    }

    private void AskAgain(IEnumerable<PoolRequest> requests)
    {
        foreach (var request in requests.ToList())
        {
            if (request.State == PoolRequest.StateOf.Elsewhere)
            {
                StopPolling(request);
                request.State = PoolRequest.StateOf.Queued;
                Advance(request.Places[0].Entry);
            }
        }
    }

    private void WakePump()
    {
        if (!_isPumping)
        {
            _isPumping = true;
            ThreadPool.UnsafeQueueUserWorkItem(static pool => _ = pool.Pump(), this, preferLocal: false);
        }
    }

    // One at a time speaks to the server; whatever comes meanwhile goes together in the next round.
    private async Task Pump()
    {
        while (true)
        {
            PoolRound round;
            lock (_gate)
            {
                round = NextRound();
                if (round.IsEmpty && !round.IsLast)
                {
                    _isPumping = false;
                    TickAt(Environment.TickCount64 + TickMilliseconds);
                    return;
                }
            }

            if (round.IsLast)
            {
                await Close(round).ConfigureAwait(false);
                return;
            }

            try
            {
                await Carry(round).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                // Nobody knows any more what the carrier holds.
                _carrier?.Discard();
                Lose(round, e);
            }

            await Answer(round.Questions).ConfigureAwait(false);
        }
    }

    private PoolRound NextRound()
    {
        var round = _round = new PoolRound();
        while (_asks.Count > 0 && (round.Asks.Count == 0 || round.Acquires.Count + _asks.Peek().Places.Length <= MostPerStatement))
        {
            if (_asks.Dequeue() is { State: PoolRequest.StateOf.Asked } request)
            {
                round.Ask(request);
            }
        }

        round.Released.AddRange(_releases);
        round.Releases.AddRange(_releases.Select(entry => entry.ToCarry()));
        _releases.Clear();
        round.Checks.AddRange(_checks);
        _checks.Clear();
        round.Questions.AddRange(_questions);
        _questions.Clear();
        round.IsLast = _isDisposed;
        if (_carrier is { } carrier)
        {
            var now = Environment.TickCount64;
            var quiet = now - carrier.LastAnswer;
            round.Marks = _isListening && !_isMarked && now >= _markAfter;
            round.Unmarks = !_isListening && _isMarked;
            round.Beats = _held.Count > 0 && quiet >= HeartbeatMilliseconds;
            round.Closes = round.IsEmpty && _entries.Count == 0 && !_isListening && quiet >= ListenMilliseconds;
        }

        return round;
    }

    private async ValueTask Carry(PoolRound round)
    {
        try
        {
            var carrier = _carrier ?? await Open().ConfigureAwait(false);
            if (round.Closes)
            {
                await CloseCarrier(carrier).ConfigureAwait(false);
                return;
            }

            if (round.Acquires.Count > _allowed)
            {
                await Look(carrier, round).ConfigureAwait(false);
            }

            if (round.IsSaid)
            {
                var start = Environment.TickCount64;
                var answer = await carrier.Carry(round, Bell(round)).ConfigureAwait(false);
                lock (_gate)
                {
                    _took = (int)(Environment.TickCount64 - start);
                    Apply(round, answer);
                    _round = null;
                }
            }
        }
        catch (Exception e)
        {
            await Mend(round, e).ConfigureAwait(false);
        }
    }

    private async ValueTask<Carrier> Open()
    {
        for (var attempt = 1; ; attempt++)
        {
            var connection = await _dataSource.OpenConnectionAsync(CancellationToken.None).ConfigureAwait(false);
            try
            {
                var (carrier, room) = await Carrier.Open(connection, _interface, _options).ConfigureAwait(false);
                lock (_gate)
                {
                    (_carrier, _allowed) = (carrier, room / 4);
                }

                return carrier;
            }
            catch (Exception)
            {
                // A data source may give out sessions that ended while nobody used them.
                var isGone = connection.State != ConnectionState.Open;
                await connection.DisposeAsync().ConfigureAwait(false);
                if (!isGone || attempt == Attempts)
                {
                    throw;
                }
            }
        }
    }

    // A quarter of the room, then another look: there are others who take from it.
    private async ValueTask Look(Carrier carrier, PoolRound round)
    {
        var now = Environment.TickCount64;
        var room = now < _noRoomUntil ? 0 : await carrier.Look().ConfigureAwait(false);
        lock (_gate)
        {
            var later = round.Limit(room);
            _noRoomUntil = round.Asks.Count == 0 ? now + LookAgainMilliseconds : 0;
            _allowed = Math.Max(round.Acquires.Count, room / 4);
            foreach (var request in later)
            {
                if (round.Asks.Count > 0 && !request.IsLate)
                {
                    // What the others leave, these may have: most may be held elsewhere, and need no room.
                    request.IsLate = true;
                    _asks.Enqueue(request);
                    continue;
                }

                Unask(request);
                if (request.WasElsewhere)
                {
                    PollLater(request);
                    continue;
                }

                Fail(request, NoRoom(request, null));
            }
        }
    }

    private LockException NoRoom(PoolRequest request, Exception? error) => new(
        string.Create(
            CultureInfo.InvariantCulture,
            $"The server has no room for lock '{request.Key}' ({request.Places.Length} more): three quarters of its lock table are taken, {_held.Count} locks by this pool, and the rest is left to other work. Hold fewer locks at once, or raise max_locks_per_transaction."),
        error);

    private void Apply(PoolRound round, (string Released, bool Rang, string Acquired, long Token) answer)
    {
        for (var i = 0; i < round.Released.Count; i++)
        {
            Unlocked(round.Released[i], answer.Released[i] == '1', answer.Rang);
        }

        round.Checks.ForEach(held => Unlocked(held, wasHeld: true));
        _othersListen = answer.Rang;
        _isMarked = round.Marks ? answer.Acquired[^1] == '1' : _isMarked && !round.Unmarks;
        var first = 0;
        foreach (var request in round.Asks)
        {
            var count = request.Places.Count(place => place.Entry.Server == PoolEntry.OnServer.Asked);
            Answered(request, answer.Acquired.AsSpan(first, count).IndexOf('0') < 0, answer.Token);
            first += count;
        }

        if (round.Marks && _isMarked)
        {
            // Now a release is heard of; one that came before may not have been.
            AskAgain(_elsewhere);
        }
        else if (round.Marks)
        {
            _markAfter = Environment.TickCount64 + MarkAgainMilliseconds;
        }
    }

    private void Answered(PoolRequest request, bool granted, long token)
    {
        (request.IsSent, request.IsLate, request.Failures) = (false, false, 0);
        if (granted)
        {
            foreach (var entry in request.Places.Select(place => place.Entry))
            {
                if (entry.Server == PoolEntry.OnServer.Asked)
                {
                    _allowed--;
                    (entry.Server, entry.Holders, entry.NotBefore, entry.HandOvers) = (PoolEntry.OnServer.Held, 1, 0, entry.TurnStart == 0 ? 0 : entry.HandOvers + 1);
                    entry.Token = token;
                    entry.TurnStart = entry.TurnStart == 0 ? Environment.TickCount64 : entry.TurnStart;
                }
            }

            Grant(request);
            foreach (var entry in request.Places.Select(place => place.Entry))
            {
                Advance(entry);
            }

            return;
        }

        Unask(request);
        if (request.IsTry || request.IsAbandoned)
        {
            GiveUp(request);
        }
        else if (request.IsRung)
        {
            (request.IsRung, request.State) = (false, PoolRequest.StateOf.Queued);
            Advance(request.Places[0].Entry);
        }
        else
        {
            request.WasElsewhere = true;
            PollLater(request);
            Listen();
        }
    }

    private void PollLater(PoolRequest request)
    {
        request.Interval = request.Interval == 0 ? ShortestPoll : Math.Min(LongestPoll, 2 * request.Interval);
        var due = Environment.TickCount64 + Math.Max(request.Interval, Math.Min(LongestPoll, 20 * _took));
        WaitElsewhere(request, due + PollGrid - (due % PollGrid));
    }

    // What was asked for is not held, and what was to be shared with others of this process is not any more.
    private void Unask(PoolRequest request)
    {
        foreach (var entry in request.Places.Select(place => place.Entry))
        {
            if (entry.Server == PoolEntry.OnServer.Asked)
            {
                (entry.Server, entry.TurnStart) = (PoolEntry.OnServer.None, 0);
                Forget(entry);
            }
            else if (--entry.Holders == 0)
            {
                Settle(entry, held: null);
            }
        }
    }

    private void WaitElsewhere(PoolRequest request, long due)
    {
        (request.State, request.Due) = (PoolRequest.StateOf.Elsewhere, due);
        _elsewhere.Add(request);
        TickAt(due);
    }

    private void Unlocked(PoolEntry entry, bool wasHeld, bool rang)
    {
        var held = entry.ReleasedBy;
        (entry.ReleasedBy, entry.Server) = (null, PoolEntry.OnServer.None);
        _allowed++;
        if (rang)
        {
            var now = Environment.TickCount64;
            (entry.TurnStart, entry.NotBefore) = MayHandOver(entry) ? (entry.TurnStart, 0L) : (0L, now + YieldMilliseconds);
        }
        else
        {
            entry.TurnStart = 0;
        }

        if (held is not null)
        {
            Unlocked(held, wasHeld);
        }

        Advance(entry);
    }

    private static void Unlocked(PooledLock held, bool wasHeld)
    {
        if (!wasHeld)
        {
            held.Lose();
        }

        if (--held.Unlocking == 0)
        {
            held.Released?.TrySetResult();
        }
    }

    // The server answered with an error, or not at all: what is held now, only it can say.
    private async ValueTask Mend(PoolRound round, Exception error)
    {
        if (_carrier is not { } carrier)
        {
            // There is no server to ask for anybody.
            lock (_gate)
            {
                FailAll(_ => error);
            }

            return;
        }

        for (var attempt = 0; attempt < Attempts && carrier.Connection.State == ConnectionState.Open; attempt++)
        {
            try
            {
                var held = await carrier.AreHeld(round).ConfigureAwait(false);
                lock (_gate)
                {
                    Mend(round, held, error, carrier);
                }

                return;
            }
            catch (Exception e) when (carrier.IsCancel(e))
            {
            }
            catch (Exception e)
            {
                error = e;
                break;
            }
        }

        carrier.Discard();
        Lose(round, error);
    }

    private void Mend(PoolRound round, string held, Exception error, Carrier carrier)
    {
        for (var i = 0; i < round.Released.Count; i++)
        {
            if (held[i] == '1')
            {
                _releases.Add(round.Released[i]);
            }
            else
            {
                // Who listens was not told; they find out by themselves.
                Unlocked(round.Released[i], wasHeld: true, rang: true);
            }
        }

        round.Checks.ForEach(held => Unlocked(held, wasHeld: true));
        var next = round.Released.Count;
        foreach (var request in round.Asks)
        {
            var asked = request.Places.Where(place => place.Entry.Server == PoolEntry.OnServer.Asked).Select(place => (place.Entry, IsHeld: held[next++] == '1')).ToList();
            if (asked.TrueForAll(one => one.IsHeld) && !_options.Fencing)
            {
                Answered(request, granted: true, token: 0);
                continue;
            }

            // Of a part, nothing is kept, and nothing without the token that was asked for.
            foreach (var (entry, _) in asked.Where(one => one.IsHeld))
            {
                (entry.Server, entry.Holders) = (PoolEntry.OnServer.Held, 1);
            }

            Unask(request);
            AskAgainOrFail(request, error, carrier);
        }

        _isMarked = round.Marks || round.Unmarks ? held[^1] == '1' : _isMarked;
    }

    private void AskAgainOrFail(PoolRequest request, Exception error, Carrier? carrier)
    {
        request.IsSent = false;
        if (request.IsAbandoned)
        {
            GiveUp(request);
        }
        else if (++request.Failures == Attempts || carrier?.IsFinal(error) == true)
        {
            if (request.WasElsewhere && request.Failures < Attempts)
            {
                PollLater(request);
                return;
            }

            Fail(request, carrier?.IsFull(error) == true ? NoRoom(request, error) : error);
        }
        else
        {
            request.State = PoolRequest.StateOf.Queued;
            Advance(request.Places[0].Entry);
        }
    }

    // The session is gone, with all that it carried.
    private void Lose(PoolRound round, Exception error)
    {
        List<PooledLock> lost;
        lock (_gate)
        {
            lost = Forget(round, wasHeld: false);
            PoolRequest[] asked = [.. round.Asks.Concat(_asks).Where(request => request.State == PoolRequest.StateOf.Asked)];
            _asks.Clear();
            Array.ForEach(asked, request => request.State = PoolRequest.StateOf.Queued);
            Array.ForEach(asked, request => AskAgainOrFail(request, error, carrier: null));

            foreach (var entry in _entries.Values.ToList())
            {
                Advance(entry);
            }
        }

        TellLost(lost, error);
    }

    // Returns what was held. What was on its way to be let go was so, or not.
    private List<PooledLock> Forget(PoolRound round, bool wasHeld)
    {
        List<PooledLock> lost = [.. _held];
        (_carrier, _isMarked, _round) = (null, false, null);
        foreach (var held in round.Checks.Concat(_checks))
        {
            Unlocked(held, wasHeld);
        }

        foreach (var entry in _entries.Values)
        {
            if (entry.ReleasedBy is { } held)
            {
                Unlocked(held, wasHeld);
            }

            (entry.Server, entry.Holders, entry.TurnStart, entry.ReleasedBy) = (PoolEntry.OnServer.None, 0, 0, null);
        }

        _held.Clear();
        _releases.Clear();
        _checks.Clear();
        foreach (var held in lost)
        {
            held.Request.State = PoolRequest.StateOf.Over;
            held.Lose();
        }

        return lost;
    }

    private void TellLost(List<PooledLock> lost, Exception? error)
    {
        if (lost.Count > 0)
        {
            Log.CarrierLost(_logger, lost.Count, error);
            lost.ForEach(held => Tell(held, Telemetry.Lost));
        }
    }

    private string Bell(PoolRound round)
    {
        if (round.Releases.Count == 0)
        {
            return "";
        }

        var text = new StringBuilder(_name);
        foreach (var one in round.Releases)
        {
            if (text.Length > MostToTell)
            {
                return $"{_name} {Anything}";
            }

            text.Append(CultureInfo.InvariantCulture, $" {(one.IsPair ? "p" : "")}{one.Number}");
        }

        return text.ToString();
    }

    private void OnBell(string message)
    {
        var keys = message.Split(' ');
        if (keys[0] == _name)
        {
            return;
        }

        lock (_gate)
        {
            if (keys is [_, Anything])
            {
                _round?.Asks.ForEach(request => request.IsRung = true);
                AskAgain(_elsewhere);
                return;
            }

            foreach (var key in keys.Skip(1))
            {
                var isPair = key.StartsWith('p');
                if (long.TryParse(key.AsSpan(isPair ? 1 : 0), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
                    && _entries.TryGetValue((number, isPair), out var entry) && entry.First?.Request is { } first)
                {
                    first.IsRung = first.State == PoolRequest.StateOf.Asked;
                    AskAgain([first]);
                }
            }
        }
    }

    private void Listen()
    {
        if (_bell is null && !_cannotListen && !_isDisposed && Environment.TickCount64 >= _listenAfter && _carrier is { } carrier && carrier.Says.Listen is { } listen)
        {
            _bell = new CancellationTokenSource();
            _bellTask = Listen(carrier, listen, _bell.Token);
        }
    }

    private async Task Listen(Carrier carrier, LockStatement listen, CancellationToken cancellationToken)
    {
        // Not under the gate, from here on.
        var isHeard = false;
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            var connection = await _dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            await using var closing = connection.ConfigureAwait(false);
            await carrier.Driver.Execute(connection, null, listen, async: true, CancellationToken.None).ConfigureAwait(false);
            if (carrier.Driver.Hear(connection, OnBell, cancellationToken) is not { } hearing)
            {
                _cannotListen = true;
                return;
            }

            lock (_gate)
            {
                _isListening = true;
                if (_isMarked)
                {
                    AskAgain(_elsewhere);
                }

                WakePump();
            }

            await hearing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            isHeard = true;
            if (connection.State == ConnectionState.Open)
            {
                await carrier.Driver.Execute(connection, null, carrier.Says.End, async: true, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            // Who waits is tried again at intervals all the same.
            Log.CannotListen(_logger, e);
        }
        catch (Exception)
        {
            // Nobody waits any more.
        }
        finally
        {
            lock (_gate)
            {
                (_bell, _isListening, _listenAfter) = (null, false, isHeard ? 0 : Environment.TickCount64 + ListenAgainMilliseconds);
                WakePump();
            }
        }
    }

    private void TickAt(long at)
    {
        if (at < _tickAt && !_isDisposed)
        {
            _tickAt = at;
            _timer.Change(Math.Max(0, at - Environment.TickCount64), Timeout.Infinite);
        }
    }

    private void Tick()
    {
        lock (_gate)
        {
            var now = Environment.TickCount64;
            _tickAt = long.MaxValue;
            if (_isDisposed)
            {
                return;
            }

            if (_elsewhere.Count > 0)
            {
                AskAgain(_elsewhere.Where(request => request.Due <= now));
                if (_elsewhere.Any(request => request.WasElsewhere))
                {
                    Listen();
                }
            }
            else if (_isListening && now - _lastElsewhere >= ListenMilliseconds)
            {
                _ = _bell?.CancelAsync();
            }

            foreach (var entry in _entries.Values.Where(entry => entry is { First: null, Server: PoolEntry.OnServer.None }).ToList())
            {
                Forget(entry);
            }

            if (PoolDeadlock.Find(_held, _entries.Values, now - DeadlockMilliseconds) is { } victim)
            {
                Fail(victim, PoolDeadlock.Error(victim));
            }

            if (_carrier is not null)
            {
                WakePump();
            }

            if (_entries.Count > 0 || _carrier is not null || _bell is not null)
            {
                TickAt(_elsewhere.Select(request => request.Due).Append(now + TickMilliseconds).Min());
            }
        }
    }

    private async ValueTask Answer(List<(LockKey Key, TaskCompletionSource<LockHolders?> Answer)> questions)
    {
        foreach (var (key, answer) in questions)
        {
            try
            {
                answer.TrySetResult(_carrier is { } carrier ? await carrier.Holders(key).ConfigureAwait(false) : null);
            }
            catch (Exception)
            {
                // It is for a message about a failure, over which nothing more may be thrown.
                answer.TrySetResult(null);
            }
        }
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
        return new LockNotAcquiredException(string.Create(
            CultureInfo.InvariantCulture,
            $"Lock '{key}' was not acquired within {timeout.TotalSeconds:0.###} s: {(isHere ? "it is held by another task of this pool" : holders?.ToString() ?? "it is held elsewhere")}. Wait longer, or use TryAcquireLockAsync to go on without it."))
        {
            Holders = holders,
        };
    }

    private void Tell(PooledLock held, string outcome)
    {
        if (Telemetry.HearsHolds)
        {
            Telemetry.Held(_carrier?.Connection.Database, _carrier?.Dialect, held.Key, _options with { Shared = held.Request.Shared }, held.Start, outcome);
        }
    }

    private async ValueTask CloseCarrier(Carrier carrier)
    {
        lock (_gate)
        {
            (_carrier, _isMarked) = (null, false);
        }

        await carrier.End().ConfigureAwait(false);
    }

    private async ValueTask Close(PoolRound round)
    {
        try
        {
            var carrier = _carrier;
            lock (_gate)
            {
                FailAll(request => new ObjectDisposedException(
                    GetType().FullName, $"The pool was disposed while lock '{request.Key}' was waited for: it is not acquired. Dispose the pool when nobody uses it any more."));
                round.Questions.Concat(_questions).ToList().ForEach(question => question.Answer.TrySetResult(null));
                _ = _bell?.CancelAsync();
            }

            var isClean = carrier is null || await carrier.End().ConfigureAwait(false);
            List<PooledLock> lost;
            lock (_gate)
            {
                lost = Forget(round, isClean);
            }

            TellLost(lost, null);
            await _bellTask.ConfigureAwait(false);
        }
        finally
        {
            _closed.TrySetResult();
        }
    }
}
