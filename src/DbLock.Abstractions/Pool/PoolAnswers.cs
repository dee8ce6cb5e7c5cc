namespace DbLock;

/// <summary>
/// What the server's answers, errors and silence mean for those who wait and hold. Only the conversation that owns the queue is heard.
/// </summary>
/// <param name="queue">The queue.</param>
/// <param name="noRoom">Makes the error of who finds the server's lock table full.</param>
internal sealed class PoolAnswers(PoolQueue queue, Func<PoolRequest, Exception?, LockException> noRoom)
{
    // A cancel of somebody else's, or a timeout of the server's, may hit a statement of many.
    private const int Attempts = 10;

    private static readonly long ShortestPoll = TimeSpan.FromMilliseconds(100).Ticks;
    private static readonly long LongestPoll = TimeSpan.FromSeconds(1).Ticks;

    // Tasks that poll do so together.
    private static readonly long PollGrid = TimeSpan.FromMilliseconds(50).Ticks;

    private readonly PoolLines _lines = queue.Lines;
    private long _took;

    /// <summary>Takes what is said next. Called under the lock.</summary>
    /// <param name="owner">The conversation.</param>
    /// <param name="round">The round of before, which is over, or a new one: what is said next is put there.</param>
    /// <returns>False when the conversation does not own the queue any more.</returns>
    public bool TakeNext(object owner, PoolRound round)
    {
        if (queue.Owner != owner)
        {
            return false;
        }

        queue.Begin();
        round.Begin();
        queue.Outbox.Fill(round, _lines.Now, _lines.OthersListen);
        queue.Round = round;
        return true;
    }

    /// <summary>Takes over what the server answered to a round.</summary>
    /// <param name="owner">Who speaks to the server.</param>
    /// <param name="round">The round.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="took">How long it took, in ticks.</param>
    /// <param name="more">How many locks the session holds that are not the queue's.</param>
    /// <returns>The keys that are believed to be held, when the server counts otherwise; else null.</returns>
    public List<PoolEntry>? Apply(object owner, PoolRound round, CarrierAnswer answer, long took, int more)
    {
        lock (queue.Gate)
        {
            if (!Enter(owner, round))
            {
                return null;
            }

            var doubted = Apply(round, answer, took, more);
            Leave(round);
            return doubted;
        }
    }

    private List<PoolEntry>? Apply(PoolRound round, CarrierAnswer answer, long took, int more)
    {
        (_took, queue.Trouble) = (took, null);
        _lines.OthersListen = answer.OthersListen ?? _lines.OthersListen;
        for (var i = 0; i < round.Released.Count; i++)
        {
            Unlocked(round.Released[i], answer.Released[i] == '1', _lines.OthersListen);
        }

        round.Checks.ForEach(hold => Unlocked(hold, wasHeld: true));
        var next = 0;
        foreach (var request in round.Asks)
        {
            var digits = answer.Acquired.AsSpan(next, request.CountAsked());
            next += digits.Length;
            if (digits.ContainsAnyExcept('1'))
            {
                Refused(request, request.AskedFor()[Math.Max(0, digits.IndexOf('0'))]);
            }
            else
            {
                Granted(request, answer.Token);
            }
        }

        foreach (var (entry, _, to) in round.Claims)
        {
            Claimed(entry, to > 0 && answer.Acquired[next++] == '1' ? to : 0);
        }

        if (answer.Count is not { } count || count == more + _lines.Entries.Sum(
            entry => (entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing ? 1 : 0) + (entry.Turn.Claimed > 0 ? 1 : 0)))
        {
            return null;
        }

        // What is to be let go tells by itself.
        return [.. _lines.Entries.Where(entry => entry.Server == PoolEntry.OnServer.Held)];
    }

    /// <summary>
    /// Takes over what is held after an error: the server has been asked for each lock of the round, first those that were to be let go.
    /// </summary>
    public void Mend(object owner, PoolRound round, string held, PoolFailure failure, bool isFenced) => Say(owner, round, () =>
    {
        for (var i = 0; i < round.Released.Count; i++)
        {
            if (held[i] == '1')
            {
                queue.Outbox.Releases.Add(round.Released[i]);
            }
            else
            {
                // Who listens was not told; they find out by themselves.
                Unlocked(round.Released[i], wasHeld: true, othersListen: true);
            }
        }

        round.Checks.ForEach(hold => Unlocked(hold, wasHeld: true));
        var next = round.ToCarry().Releases.Count;
        foreach (var request in round.Asks)
        {
            var asked = request.AskedFor().Select(entry => (Entry: entry, IsHeld: held[next++] == '1')).ToList();
            if (asked.TrueForAll(one => one.IsHeld) && !isFenced)
            {
                Granted(request, token: 0);
                continue;
            }

            // Of a part, nothing is kept, and nothing without the token that was asked for.
            foreach (var (entry, _) in asked.Where(one => one.IsHeld))
            {
                entry.Become(PoolEntry.OnServer.Held, _lines.Now);
                entry.Holders = 1;
            }

            _lines.Unask(request);
            AskAgainOrFail(request, failure);
        }

        var released = round.Released.Count;
        foreach (var (entry, from, to) in round.Claims)
        {
            var (hasOld, hasNew) = (from > 0 && held[released++] == '1', to > 0 && held[next++] == '1');
            Claimed(entry, hasNew ? to : hasOld ? from : 0);
        }

        return true;
    });

    /// <summary>Takes out of a round those for which the server has no room.</summary>
    public void Limit(object owner, PoolRound round, long room) => Say(owner, null, () =>
    {
        foreach (var request in round.Limit(room))
        {
            if (round.Asks.Count > 0 && !request.IsLate)
            {
                // What the others leave, these may have: most may be held elsewhere, and need no room.
                (request.IsLate, request.State) = (true, PoolRequest.StateOf.Asking);
                queue.Outbox.Asks.Enqueue(request);
                continue;
            }

            _lines.Unask(request);
            if (request.WasElsewhere && !request.IsEnded)
            {
                PollLater(request, request.Places[0].Entry);
            }
            else
            {
                Fail(request, noRoom(request, null));
            }
        }

        return true;
    });

    /// <summary>Does something under the lock, if the conversation owns the queue.</summary>
    /// <param name="owner">The conversation.</param>
    /// <param name="round">The round that is answered by it; null when none is.</param>
    /// <param name="what">What is done.</param>
    public T? Say<T>(object owner, PoolRound? round, Func<T> what)
    {
        lock (queue.Gate)
        {
            if (!Enter(owner, round))
            {
                return default;
            }

            var result = what();
            Leave(round);
            return result;
        }
    }

    private bool Enter(object owner, PoolRound? round)
    {
        if (queue.Owner != owner)
        {
            return false;
        }

        if (round?.Caller is { } caller)
        {
            caller.IsKept = true;
        }

        queue.Begin();
        return true;
    }

    private void Leave(PoolRound? round)
    {
        queue.Finish();
        if (round is null)
        {
            return;
        }

        // It has been answered: an error that comes later says nothing of it.
        queue.Round = null;
        round.Clear();
        if (round.Caller is { } caller)
        {
            caller.IsKept = false;
        }
    }

    // Of a set, what tasks of this process share already stays as it is.
    private void Granted(PoolRequest request, long token)
    {
        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.Server != PoolEntry.OnServer.Asked)
            {
                continue;
            }

            entry.Become(PoolEntry.OnServer.Held, _lines.Now);
            (entry.Holders, entry.Token, entry.RefusedAt) = (1, token, -1);
            entry.Turn.Granted(_lines.Now);
        }

        _lines.Grant(request);
    }

    private void Refused(PoolRequest request, PoolEntry lacks)
    {
        _lines.Unask(request);
        lacks.RefusedAt = _lines.Now;
        if (!request.IsSet && !request.IsLast)
        {
            lacks.Turn.Refused(heardBell: request.AnswersBell);
        }

        (request.IsLate, request.Failures, request.AnswersBell) = (false, 0, false);
        if (request.IsLast || request.IsEnded)
        {
            request.End(null);
            _lines.Leave(request);
        }
        else if (request.IsRung)
        {
            (request.IsRung, request.AnswersBell) = (false, true);
            _lines.PutBack(request);
        }
        else
        {
            PollLater(request, lacks);
        }
    }

    // At intervals that grow, and that are long beside what a round takes.
    private void PollLater(PoolRequest request, PoolEntry lacks)
    {
        request.Interval = request.Interval == 0 ? ShortestPoll : Math.Min(LongestPoll, 2 * request.Interval);
        var due = _lines.Now + Math.Max(request.Interval, Math.Min(LongestPoll, 20 * _took));
        _lines.PutAside(request, due + PollGrid - (due % PollGrid), lacks);
    }

    /// <summary>Asks again for what was not answered, unless that would end in the same way or has been done too often.</summary>
    public void AskAgainOrFail(PoolRequest request, PoolFailure failure)
    {
        if (request.IsEnded || request.IsCancelled)
        {
            request.End(null);
            _lines.Leave(request);
        }
        else if (++request.Failures < Attempts && !failure.IsFinal)
        {
            _lines.PutBack(request);
        }
        else if (request.WasElsewhere && request.Failures < Attempts)
        {
            PollLater(request, request.Places[0].Entry);
        }
        else
        {
            Fail(request, failure.IsFull ? noRoom(request, failure.Error) : failure.Error);
        }
    }

    public void Fail(PoolRequest request, Exception error)
    {
        request.Fail(error);
        _lines.Leave(request);
    }

    private void Unlocked(PoolEntry entry, bool wasHeld, bool othersListen)
    {
        var hold = entry.ReleasedBy;
        entry.ReleasedBy = null;
        entry.Become(PoolEntry.OnServer.None, _lines.Now);
        entry.Turn.LetGo(_lines.Now, othersListen);
        _lines.Touch(entry);
        if (hold is not null)
        {
            Unlocked(hold, wasHeld);
        }
    }

    /// <summary>The server has said of one key of a hold that it was let go.</summary>
    public static void Unlocked(PoolHold hold, bool wasHeld)
    {
        if (!wasHeld)
        {
            hold.Lose();
        }

        if (--hold.Unlocking == 0)
        {
            hold.Released?.End(!hold.IsLost);
        }
    }

    /// <summary>The claim on a key is of another level now.</summary>
    public void Claimed(PoolEntry entry, int level)
    {
        (entry.Turn.Claimed, entry.Turn.IsClaiming) = (level, false);
        _lines.Touch(entry);
    }
}
