using System.Data;
using System.Globalization;

namespace DbLock;

/// <content>The conversation with the server, of which one round is under way at a time.</content>
public sealed partial class LockPool
{
    private void WakePump()
    {
        if (_round is null)
        {
            _round = Beginning;
            ThreadPool.UnsafeQueueUserWorkItem(static pool => _ = pool.Pump(), this, preferLocal: false);
        }
    }

    // One at a time speaks to the server; whatever comes meanwhile goes together in the next round. Whose round is not the pool's any more, because the server did not answer for too
    // long, has been replaced: it touches nothing but its own carrier.
    private async Task Pump()
    {
        var round = Beginning;
        while (true)
        {
            lock (_gate)
            {
                if (_round != round)
                {
                    return;
                }

                round = NextRound();
                if (round.IsEmpty && !round.IsLast)
                {
                    _round = null;
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
                round.Carrier?.Discard();
                Lose(round, e);
            }

            await Answer(round).ConfigureAwait(false);
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

        _releases.ForEach(round.Release);
        _releases.Clear();
        round.Checks.AddRange(_checks);
        _checks.Clear();
        round.Questions.AddRange(_questions);
        _questions.Clear();
        round.IsLast = _isDisposed;
        round.Carrier = _carrier;
        if (_carrier is { } carrier)
        {
            var now = Environment.TickCount64;
            var quiet = now - carrier.LastAnswer;
            round.Marks = _isListening && !_isMarked && now >= _markAfter;
            round.Unmarks = !_isListening && _isMarked;
            round.Beats = _held.Count > 0 && now - carrier.LastCount >= HeartbeatMilliseconds;
            round.Closes = round.IsEmpty && _entries.Count == 0 && !_isListening && quiet >= ListenMilliseconds;
        }

        return round;
    }

    private async ValueTask Carry(PoolRound round)
    {
        try
        {
            var carrier = round.Carrier ??= await Open().ConfigureAwait(false);
            if (round.Closes)
            {
                await CloseCarrier(round, carrier).ConfigureAwait(false);
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
                List<PoolEntry> doubted = [];
                lock (_gate)
                {
                    if (_round == round)
                    {
                        _took = (int)(Environment.TickCount64 - start);
                        Apply(round, answer);
                        doubted = Doubted(answer.Count);
                        round.Clear();
                    }
                }

                if (doubted.Count > 0)
                {
                    await FindLost(round, carrier, doubted).ConfigureAwait(false);
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
            var connection = await OwnConnection.Open(_dataSource, async: true, CancellationToken.None).ConfigureAwait(false);
            try
            {
                var (carrier, room) = await Carrier.Open(connection, _interface, _options).ConfigureAwait(false);
                lock (_gate)
                {
                    (_carrier, _allowed) = (carrier, room / 4);
                    TickAt(Environment.TickCount64 + TickMilliseconds);
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
            if (_round != round)
            {
                return;
            }

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

    private void Apply(PoolRound round, (string Released, bool Rang, string Acquired, long Token, int? Count) answer)
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
            var count = request.AskedFor.Count();
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

    // What is believed to be held, when the server counts otherwise. What is to be let go tells by itself.
    private List<PoolEntry> Doubted(int? count)
    {
        var believed = count is null ? 0 : _entries.Values.Count(entry => entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing) + (_isMarked ? 1 : 0);
        return count is null || count == believed ? [] : [.. _entries.Values.Where(entry => entry.Server == PoolEntry.OnServer.Held)];
    }

    private async ValueTask FindLost(PoolRound round, Carrier carrier, List<PoolEntry> doubted)
    {
        var held = await carrier.AreHeld([.. doubted.Select(entry => entry.ToCarry()), LockCarrier.Listening]).ConfigureAwait(false);
        List<PooledLock> lost;
        lock (_gate)
        {
            if (_round != round)
            {
                return;
            }

            _isMarked = held[^1] == '1';
            lost = Lose([.. doubted.Where((entry, index) => held[index] == '0' && entry.Server == PoolEntry.OnServer.Held)]);
        }

        foreach (var one in lost)
        {
            Log.Lost(_logger, one.Key, null);
            Tell(one, carrier, Telemetry.Lost);
        }
    }

    // Some locks are gone from a session that lives. The server is told to let go of them all the same, so that they end in the way of every other.
    private List<PooledLock> Lose(HashSet<PoolEntry> gone)
    {
        List<PooledLock> lost = [.. _held.Where(held => held.Request.Entries.Any(gone.Contains))];
        List<PoolRequest> sharing = [.. _asks.Where(request => request.State == PoolRequest.StateOf.Asked && request.Entries.Any(gone.Contains))];
        PoolRequest[] others = [.. _asks.Except(sharing)];
        _asks.Clear();
        Array.ForEach(others, _asks.Enqueue);
        foreach (var entry in gone)
        {
            // Nobody is handed it.
            entry.HandOvers = MostHandOvers;
        }

        foreach (var held in lost)
        {
            LetGo(held);
            held.Lose();
        }

        foreach (var request in sharing)
        {
            Unask(request);
            request.State = PoolRequest.StateOf.Queued;
        }

        sharing.ForEach(request => Advance(request.Places[0].Entry));
        return lost;
    }

    private void Answered(PoolRequest request, bool granted, long token)
    {
        (request.IsSent, request.IsLate, request.Failures) = (false, false, 0);
        if (granted)
        {
            foreach (var entry in request.Entries)
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
            foreach (var entry in request.Entries)
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
        foreach (var entry in request.Entries)
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
        if (round.Carrier is not { } carrier)
        {
            // There is no server to ask for anybody.
            lock (_gate)
            {
                if (_silent?.Connection.State == ConnectionState.Open)
                {
                    // It has a connection that the next carrier may need.
                    round.Asks.ForEach(request => AskLater(request, error));
                }
                else
                {
                    FailAll(_ => error);
                }
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
                    if (_round == round)
                    {
                        Mend(round, held, error, carrier);
                        round.Clear();
                    }
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
            var asked = request.AskedFor.Select(entry => (Entry: entry, IsHeld: held[next++] == '1')).ToList();
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

    private void AskLater(PoolRequest request, Exception error)
    {
        request.IsSent = false;
        Unask(request);
        if (request.IsAbandoned)
        {
            GiveUp(request);
        }
        else if (request.IsTry)
        {
            Fail(request, error);
        }
        else
        {
            WaitElsewhere(request, Environment.TickCount64 + LongestPoll);
        }
    }

    // The session is gone, with all that it carried.
    private void Lose(PoolRound round, Exception error)
    {
        List<PooledLock> lost;
        lock (_gate)
        {
            if (_round != round)
            {
                return;
            }

            lost = LoseAll(round, error);
        }

        TellLost(lost, round.Carrier, error);
    }

    /// <summary>Gives up a carrier whose server has not answered for too long, with all that it carried; another takes its place.</summary>
    internal void CheckTrust()
    {
        // Mostly no more than a look at the clock.
        if (_carrier is not { } silent || !silent.IsSilent(holds: true))
        {
            return;
        }

        List<PooledLock> lost;
        var error = Carrier.Silence();
        lock (_gate)
        {
            if (_carrier != silent || !silent.IsSilent(_held.Count > 0))
            {
                return;
            }

            var round = _round ?? Beginning;
            (_round, _silent) = (null, silent);
            lost = LoseAll(round, error);
            round.Questions.ForEach(question => question.Answer.TrySetResult(null));
            _ = _bell?.CancelAsync();
            WakePump();
        }

        // Ending the session may take as long as the network does.
        ThreadPool.UnsafeQueueUserWorkItem(static carrier => carrier.Discard(), silent, preferLocal: false);
        TellLost(lost, silent, error);
    }

    private List<PooledLock> LoseAll(PoolRound round, Exception error)
    {
        var lost = Forget(round, wasHeld: false);
        PoolRequest[] asked = [.. round.Asks.Concat(_asks).Where(request => request.State == PoolRequest.StateOf.Asked)];
        _asks.Clear();
        Array.ForEach(asked, request => request.State = PoolRequest.StateOf.Queued);
        Array.ForEach(asked, request => AskAgainOrFail(request, error, carrier: null));
        foreach (var entry in _entries.Values.ToList())
        {
            Advance(entry);
        }

        return lost;
    }

    // Returns what was held. What was on its way to be let go was so, or not.
    private List<PooledLock> Forget(PoolRound round, bool wasHeld)
    {
        List<PooledLock> lost = [.. _held];
        (_carrier, _isMarked) = (null, false);
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

    private void TellLost(List<PooledLock> lost, Carrier? carrier, Exception? error)
    {
        if (lost.Count > 0)
        {
            Log.CarrierLost(_logger, lost.Count, error);
            lost.ForEach(held => Tell(held, carrier, Telemetry.Lost));
        }
    }

    private static async ValueTask Answer(PoolRound round)
    {
        foreach (var (key, answer) in round.Questions)
        {
            try
            {
                answer.TrySetResult(round.Carrier is { } carrier ? await carrier.Holders(key).ConfigureAwait(false) : null);
            }
            catch (Exception)
            {
                // It is for a message about a failure, over which nothing more may be thrown.
                answer.TrySetResult(null);
            }
        }
    }

    private async ValueTask CloseCarrier(PoolRound round, Carrier carrier)
    {
        await carrier.End().ConfigureAwait(false);
        lock (_gate)
        {
            if (_round == round)
            {
                (_carrier, _isMarked) = (null, false);
            }
        }
    }

    private async ValueTask Close(PoolRound round)
    {
        try
        {
            lock (_gate)
            {
                FailAll(request => new ObjectDisposedException(
                    GetType().FullName, $"The pool was disposed while lock '{request.Key}' was waited for: it is not acquired. Dispose the pool when nobody uses it any more."));
                round.Questions.Concat(_questions).ToList().ForEach(question => question.Answer.TrySetResult(null));
                _ = _bell?.CancelAsync();
            }

            var isClean = round.Carrier is null || await round.Carrier.End().ConfigureAwait(false);
            List<PooledLock> lost;
            lock (_gate)
            {
                if (_round != round)
                {
                    return;
                }

                lost = Forget(round, isClean);
            }

            TellLost(lost, round.Carrier, null);
            await _bellTask.ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
            {
                if (_round == round)
                {
                    _timer.Dispose();
                    _closed.TrySetResult();
                }
            }
        }
    }
}
