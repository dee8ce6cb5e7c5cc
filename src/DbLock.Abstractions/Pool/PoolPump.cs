using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>
/// One conversation with the server, over a carrier of its own. It sends one round after another; what is asked for during a round goes
/// into the next one.
/// </summary>
/// <remarks>
/// When the server does not answer, another pump takes its place at any moment. It then ends with the answer that it waits for, and can
/// change nothing but its own carrier, because the queue accepts answers of its owner alone (<see cref="PoolQueue.Owner"/>).
/// </remarks>
internal sealed class PoolPump(
    PoolSource source, IPoolOwner owner, PoolQueue queue, PoolAnswers answers, PoolLosses losses, PoolBell bell, PoolReports reports)
    : IPoolPump
{
    // How often a question is sent again that somebody's cancel, or a timeout of the server, has hit.
    private const int Attempts = 10;

    private static readonly long Heartbeat = TrustWindow.Beat.Ticks;
    private static readonly long IdleFor = TimeSpan.FromSeconds(5).Ticks;
    private static readonly long MarkAgain = TimeSpan.FromMilliseconds(100).Ticks;
    private static readonly long LookAgain = TimeSpan.FromMilliseconds(100).Ticks;
    private static readonly long ShortestRetry = TimeSpan.FromMilliseconds(100).Ticks;
    private static readonly long LongestRetry = TimeSpan.FromSeconds(1).Ticks;

    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile Carrier? _carrier;
    private PoolRound? _round;
    private bool _isBusy;
    private bool _isEnding;
    private bool _isMarked;
    private long _markAfter;
    private long _noRoomUntil;
    private long _room;
    private long _retry = ShortestRetry;

    public (string? Database, LockDialect? Dialect) Where => _carrier?.Where ?? default;

    public Carrier? Carrier => _carrier;

    /// <summary>Gets or sets the carrier that was given up before this pump began. Its session may not have ended yet.</summary>
    public Carrier? Before { get; init; }

    public bool IsMarked => _isMarked;

    private bool OwnsQueue => queue.Owner == this;

    public void Wake(PoolPromise? caller = null)
    {
        var round = default(PoolRound);
        lock (queue.Gate)
        {
            if (_isBusy || _isEnding || !OwnsQueue)
            {
                return;
            }

            if (caller is not null && _carrier is { IsAsynchronous: true } && (round = Next()) is null)
            {
                return;
            }

            _isBusy = true;
            if (round is not null)
            {
                round.Caller = caller;
            }
        }

        if (round is null)
        {
            ThreadPool.UnsafeQueueUserWorkItem(static pump => _ = pump.Converse(null), this, preferLocal: false);
        }
        else
        {
            _ = Converse(round);
        }
    }

    public async Task<IReadOnlyDictionary<LockKey, LockHolders>> AskHolders(
        IReadOnlyCollection<LockKey> keys, CancellationToken cancellationToken) => _carrier is { } carrier
        ? await source.AskHolders(carrier, keys, cancellationToken).ConfigureAwait(false) : new Dictionary<LockKey, LockHolders>();

    // A carrier that owes an answer when the limit comes is left behind, and destroyed.
    public async Task<bool> End(CancellationToken limit)
    {
        lock (queue.Gate)
        {
            _isEnding = true;
            if (!_isBusy)
            {
                _ended.TrySetResult();
            }

            if (_carrier is null)
            {
                // A carrier that is being opened is closed as soon as it is open.
                return true;
            }
        }

        await _ended.Task.WaitAsync(limit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_carrier is not { } carrier)
        {
            return _ended.Task.IsCompleted;
        }

        // Ending it runs on another thread, because a driver may block.
        var ending = _ended.Task.IsCompleted
            ? Task.Run(async () => await carrier.End().ConfigureAwait(false), CancellationToken.None)
            : Task.FromResult(false);
        await ((Task)ending).WaitAsync(limit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!ending.IsCompletedSuccessfully || !_ended.Task.IsCompleted)
        {
            Discard(carrier);
            return false;
        }

        return await ending.ConfigureAwait(false);
    }

    /// <summary>Destroys a carrier without waiting for it: the end of its session may take as long as the network does.</summary>
    public static void Discard(Carrier carrier) =>
        ThreadPool.UnsafeQueueUserWorkItem(static carrier => carrier.Discard(), carrier, preferLocal: false);

    private async Task Converse(PoolRound? round)
    {
        while (true)
        {
            if (round is null && (round = Continue()) is null)
            {
                return;
            }

            await Send(round).ConfigureAwait(false);
            var caller = round.Caller;
            round = null;
            if (caller is not null)
            {
                // What was asked for meanwhile is sent by another thread, because the caller continues on this one.
                var next = Continue();
                if (next is not null)
                {
                    ThreadPool.UnsafeQueueUserWorkItem(
                        static more => _ = more.Pump.Converse(more.Round), (Pump: this, Round: next), preferLocal: false);
                }

                caller.Deliver();
                return;
            }
        }
    }

    private PoolRound? Continue()
    {
        lock (queue.Gate)
        {
            var round = Next();
            if (round is null)
            {
                _isBusy = false;
                if (_isEnding)
                {
                    _ended.TrySetResult();
                }
            }

            return round;
        }
    }

    private PoolRound? Next()
    {
        if (_carrier is { MayBeSilent: true } silent && silent.IsSilent(queue.HasHolds))
        {
            // The process stood still for longer than an answer is trusted. The pool gives this carrier up, whatever the server would
            // answer now.
            return null;
        }

        // The round is used again and again, unless it has grown large.
        var round = _round = _round is { IsLarge: false } before ? before : new PoolRound();
        if (!answers.TakeNext(this, round))
        {
            return null;
        }

        if (_carrier is { } carrier)
        {
            var now = queue.Now;
            round.Bell = bell.NameFor(round.Releases);
            round.Marks = bell.IsListening && !_isMarked && now >= _markAfter;
            round.Unmarks = !bell.IsListening && _isMarked;
            round.Beats = queue.Lines.Held.Count > 0 && carrier.SinceCount >= Heartbeat;
            round.Closes = round.IsEmpty && queue.Lines.Entries.Count == 0 && !bell.IsListening && carrier.SinceAnswer >= IdleFor;
        }

        return round.IsEmpty || (_isEnding && _carrier is null) ? null : round;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask Send(PoolRound round)
    {
        var carrier = _carrier;
        try
        {
            carrier ??= await Connect().ConfigureAwait(false);
            if (carrier is null)
            {
                return;
            }

            if (round.Closes)
            {
                _carrier = null;
                _isMarked = false;
                await carrier.End().ConfigureAwait(false);
                return;
            }

            if (!carrier.Says.HasShared && round.Acquires.Exists(static one => one.Shared))
            {
                answers.RefuseShared(this, round, carrier.Dialect.Name);
            }

            if (round.Acquires.Count > _room)
            {
                await Look(carrier, round).ConfigureAwait(false);
            }

            if (round.HasStatement)
            {
                await Carry(carrier, round).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (carrier is not null)
        {
            try
            {
                await Mend(carrier, round, e).ConfigureAwait(false);
            }
            catch (Exception error)
            {
                // After this error it is not known what the carrier holds, so its session is ended.
                Lose(carrier, error);
            }
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask Carry(Carrier carrier, PoolRound round)
    {
        var start = Stopwatch.GetTimestamp();
        var answer = await carrier.Carry(round).ConfigureAwait(false);
        var took = Stopwatch.GetElapsedTime(start).Ticks;
        var marks = round.Marks;
        _isMarked = marks ? answer.Acquired[^1] == '1' : _isMarked && !round.Unmarks;
        _room += round.Released.Count - answer.Acquired.AsSpan().Count('1');
        var doubted = answers.Apply(this, round, answer, took, _isMarked ? 1 : 0);
        if (marks && _isMarked)
        {
            // From here on releases are heard of. One that came earlier may have been missed, so all are asked for once.
            queue.AskAgain();
        }
        else if (marks)
        {
            _markAfter = queue.Now + MarkAgain;
        }

        owner.Follow();
        if (doubted is not null)
        {
            var held = await carrier.AreHeld([.. doubted.Select(entry => entry.ToCarry()), LockCarrier.Listening]).ConfigureAwait(false);
            _isMarked = held[^1] == '1';
            var lost = losses.Lose(
                this, [.. doubted.Where((entry, index) => held[index] == '0' && entry.Server == PoolEntry.OnServer.Held)]);
            reports.Lost(lost, carrier.Where);
        }
    }

    // The round takes a quarter of the room at most, and then asks for the room again, because other programs use it, too.
    private async ValueTask Look(Carrier carrier, PoolRound round)
    {
        var now = queue.Now;
        var room = now < _noRoomUntil ? 0 : await carrier.Look().ConfigureAwait(false);
        answers.Limit(this, round, room);
        _noRoomUntil = round.Asks.Count == 0 ? now + LookAgain : 0;
        _room = Math.Max(round.Acquires.Count, room / 4);
    }

    /// <returns>Null when no session can be had, which those who wait were told, and when this pump was replaced.</returns>
    private async ValueTask<Carrier?> Connect()
    {
        try
        {
            var (carrier, room) = await source.Open().ConfigureAwait(false);
            lock (queue.Gate)
            {
                if (OwnsQueue && !_isEnding)
                {
                    (_carrier, _room, _retry) = (carrier, room / 4, ShortestRetry);
                    (queue.Lines.LocksNumbers, queue.Outbox.MostPerStatement) = (!carrier.Says.LocksNames, carrier.Says.MostPerStatement);
                    owner.Follow();
                    return carrier;
                }
            }

            await carrier.End().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            if (losses.CannotConnect(this, e, _retry, allWait: Before?.Connection.State == ConnectionState.Open))
            {
                reports.Unconnected(e);
            }

            _retry = Math.Min(LongestRetry, 2 * _retry);
            owner.Follow();
        }

        return null;
    }

    // The server has answered with an error, or not at all, so that it must be asked what is held now.
    private async ValueTask Mend(Carrier carrier, PoolRound round, Exception error)
    {
        for (var attempt = 0; attempt < Attempts && carrier.Connection.State == ConnectionState.Open; attempt++)
        {
            try
            {
                var held = await carrier.AreHeld(round).ConfigureAwait(false);
                var isOfBell = round.Bell.Length > 0 && carrier.IsFinal(error);
                if (isOfBell)
                {
                    bell.Mute();
                }

                _isMarked = round.Marks ? held[^1] == '1' : round.Unmarks ? held[round.ToCarry().Releases.Count - 1] == '1' : _isMarked;
                var failure = new PoolFailure(error, !isOfBell && carrier.IsFinal(error), carrier.IsFull(error));
                answers.Mend(this, round, held, failure, source.IsFenced);
                owner.Follow();
                return;
            }
            catch (Exception e) when (carrier.IsCancel(e))
            {
            }
        }

        Lose(carrier, error);
    }

    // Ends all holds, because the session is gone.
    private void Lose(Carrier carrier, Exception error)
    {
        List<PoolHold> lost;
        Discard(carrier);
        lock (queue.Gate)
        {
            if (!OwnsQueue)
            {
                return;
            }

            // Both at once: who looks between them would find no carrier that has fallen silent, and a lock that is held.
            _carrier = null;
            _isMarked = false;
            lost = losses.LoseAll(this, this, error);
        }

        reports.Lost(lost, carrier.Where, error);
        owner.Follow();
    }
}
