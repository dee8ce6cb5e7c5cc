using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>
/// One conversation with the server: a round at a time, over a carrier of its own. Whatever is asked for meanwhile goes together in the
/// next round.
/// </summary>
/// <remarks>
/// It may be replaced at any moment, because the server does not answer. Then it ends with the answer that it waits for, and can touch
/// nothing but its own carrier: the queue no longer hears it (<see cref="PoolQueue.Owner"/>).
/// </remarks>
internal sealed class PoolPump(
    PoolSource source, IPoolOwner owner, PoolQueue queue, PoolAnswers answers, PoolLosses losses, PoolBell bell, PoolReports reports)
{
    // A cancel of somebody else's, or a timeout of the server's, may hit a question.
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

    /// <summary>Gets the carrier; null while there is none.</summary>
    public Carrier? Carrier => _carrier;

    /// <summary>Gets or sets the carrier that was given up before this, whose session may not have ended.</summary>
    public Carrier? Before { get; init; }

    /// <summary>Gets whether the carrier has the sign that this pool listens.</summary>
    public bool IsMarked => _isMarked;

    private bool OwnsQueue => queue.Owner == this;

    /// <summary>Says what is to be said, if nothing is being said; what is asked for meanwhile is said after it.</summary>
    /// <param name="caller">Whose own thread may say it, and go on with the answer; null to leave it to another thread.</param>
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

    /// <summary>Ends the conversation, and gives the carrier back; called when the queue is closed.</summary>
    /// <param name="limit">Until when it is waited for. A carrier that owes an answer then is left behind, and destroyed.</param>
    /// <returns>Whether all that the carrier held was let go.</returns>
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
                // One that is being opened is closed as soon as it is open.
                return true;
            }
        }

        await _ended.Task.WaitAsync(limit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_carrier is not { } carrier)
        {
            return _ended.Task.IsCompleted;
        }

        // A driver may block its thread.
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

    /// <summary>Destroys a carrier without waiting: the end of its session may take as long as the network does.</summary>
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

            await Say(round).ConfigureAwait(false);
            var caller = round.Caller;
            round = null;
            if (caller is not null)
            {
                // What has been asked for meanwhile is said by another thread: the caller goes on with this one.
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
            // The process stood still for longer than the trust lasts: the pool gives this carrier up, whatever the server would say now.
            return null;
        }

        // One round is used again and again, unless it has grown large.
        var round = _round = _round is { IsLarge: false } before ? before : new PoolRound();
        if (!answers.TakeNext(this, round))
        {
            return null;
        }

        if (_carrier is { } carrier)
        {
            var now = queue.Now;
            round.Bell = bell.TextOf(round.Releases);
            round.Marks = bell.IsListening && !_isMarked && now >= _markAfter;
            round.Unmarks = !bell.IsListening && _isMarked;
            round.Beats = queue.Lines.Held.Count > 0 && carrier.SinceCount >= Heartbeat;
            round.Closes = round.IsEmpty && queue.Lines.Entries.Count == 0 && !bell.IsListening && carrier.SinceAnswer >= IdleFor;
        }

        return round.IsEmpty || (_isEnding && _carrier is null) ? null : round;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask Say(PoolRound round)
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

            if (round.Acquires.Count > _room)
            {
                await Look(carrier, round).ConfigureAwait(false);
            }

            if (round.IsSaid)
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
                // Nobody knows any more what the carrier holds.
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
            // Now a release is heard of; one that came before may not have been.
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
            reports.Lost(lost, carrier);
        }
    }

    // A quarter of the room, then another look: there are others who take from it.
    private async ValueTask Look(Carrier carrier, PoolRound round)
    {
        var now = queue.Now;
        var room = now < _noRoomUntil ? 0 : await carrier.Look().ConfigureAwait(false);
        answers.Limit(this, round, room);
        _noRoomUntil = round.Asks.Count == 0 ? now + LookAgain : 0;
        _room = Math.Max(round.Acquires.Count, room / 4);
    }

    /// <returns>Null when there is no session to be had, which those who wait have been told, or when the pump was replaced.</returns>
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

    // The server answered with an error, or not at all: what is held now, only it can say.
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

    // The session is gone, with all that it carried.
    private void Lose(Carrier carrier, Exception error)
    {
        Discard(carrier);
        lock (queue.Gate)
        {
            if (!OwnsQueue)
            {
                return;
            }

            _carrier = null;
            _isMarked = false;
        }

        reports.Lost(losses.LoseAll(this, this, error), carrier, error);
        owner.Follow();
    }
}
