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

    /// <summary>Returns what is said next; null when the conversation does not own the queue any more. Called under the lock.</summary>
    public PoolRound? NextRound(object owner)
    {
        if (queue.Owner != owner)
        {
            return null;
        }

        queue.Begin();
        return queue.Round = queue.Outbox.Next(_lines.Now, _lines.OthersListen);
    }

    /// <summary>Takes over what the server answered to a round.</summary>
    /// <param name="owner">Who speaks to the server.</param>
    /// <param name="round">The round.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="took">How long it took, in ticks.</param>
    /// <param name="more">How many locks the session holds that are not the queue's.</param>
    /// <returns>The keys that are believed to be held, when the server counts otherwise.</returns>
    public List<PoolEntry> Apply(object owner, PoolRound round, CarrierAnswer answer, long took, int more) => Say(owner, round, () =>
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
            PoolEntry[] asked = [.. request.AskedFor];
            var digits = answer.Acquired.AsSpan(next, asked.Length);
            next += asked.Length;
            if (digits.ContainsAnyExcept('1'))
            {
                Refused(request, asked[Math.Max(0, digits.IndexOf('0'))]);
            }
            else
            {
                Granted(request, asked, answer.Token);
            }
        }

        foreach (var (entry, _, to) in round.Claims)
        {
            Claimed(entry, to > 0 && answer.Acquired[next++] == '1' ? to : 0);
        }

        if (answer.Count is not { } count || count == more + _lines.Entries.Sum(
            entry => (entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing ? 1 : 0) + (entry.Turn.Claimed > 0 ? 1 : 0)))
        {
            return [];
        }

        // What is to be let go tells by itself.
        return _lines.Entries.Where(entry => entry.Server == PoolEntry.OnServer.Held).ToList();
    }) ?? [];

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
            var asked = request.AskedFor.Select(entry => (Entry: entry, IsHeld: held[next++] == '1')).ToList();
            if (asked.TrueForAll(one => one.IsHeld) && !isFenced)
            {
                Granted(request, [.. asked.Select(one => one.Entry)], token: 0);
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

    /// <summary>There is no session to ask over: who has waited since there was one goes on waiting, and the others are told.</summary>
    /// <param name="owner">Who tried to open one.</param>
    /// <param name="error">Why there is none.</param>
    /// <param name="retry">When to try again, in ticks from now.</param>
    /// <param name="allWait">Whether the others wait too, for the end of a session that fell silent.</param>
    /// <returns>Whether anybody waits on.</returns>
    public bool CannotConnect(object owner, Exception error, long retry, bool allWait) => Say(owner, null, () =>
    {
        queue.Trouble = error;
        var waitsOn = false;
        foreach (var request in queue.Waiting())
        {
            if (request.IsTry || request.IsEnded || !(request.Persists || allWait))
            {
                Unask(request);
                Fail(request, error);
                continue;
            }

            waitsOn = true;
            if (request.State is PoolRequest.StateOf.Asking or PoolRequest.StateOf.Asked)
            {
                Unask(request);
                _lines.PutAside(request, _lines.Now + retry, lacks: null);
            }
        }

        return waitsOn;

        void Unask(PoolRequest request)
        {
            if (request.State is PoolRequest.StateOf.Asking or PoolRequest.StateOf.Asked)
            {
                _lines.Unask(request);
                request.State = PoolRequest.StateOf.Queued;
            }
        }
    });

    /// <summary>
    /// Some locks are gone from a session that lives. The server is told to let go of them all the same, so that they end in the way of
    /// every other.
    /// </summary>
    /// <returns>What was lost.</returns>
    public List<PoolHold> Lose(object owner, HashSet<PoolEntry> gone) => Say(owner, null, () =>
    {
        foreach (var request in queue.Waiting().Where(
            request => request.State == PoolRequest.StateOf.Asking && Array.Exists(request.Places, place => gone.Contains(place.Entry))))
        {
            _lines.Unask(request);
            request.State = PoolRequest.StateOf.Queued;
        }

        List<PoolHold> lost = [.. _lines.Held.Where(hold => Array.Exists(hold.Entries, gone.Contains))];
        foreach (var entry in gone)
        {
            entry.Turn.Spend();
        }

        foreach (var hold in lost)
        {
            _lines.LetGo(hold);
            hold.Lose();
        }

        return lost;
    }) ?? [];

    /// <summary>The session is gone, with all that it carried.</summary>
    /// <param name="owner">Whose session it was.</param>
    /// <param name="next">Who speaks to the server from now on.</param>
    /// <param name="error">What happened to it.</param>
    /// <param name="wasHeld">Whether all that was on its way to be let go was held to the end.</param>
    /// <returns>What was lost.</returns>
    public List<PoolHold> LoseAll(object owner, object? next, Exception error, bool wasHeld = false) => Say(owner, null, () =>
    {
        queue.Owner = next;
        List<PoolHold> lost = [.. _lines.Held];
        foreach (var hold in lost)
        {
            hold.IsHeld = false;
            hold.Flow.End();
            hold.Lose();
        }

        foreach (var hold in (queue.Round?.Checks ?? []).Concat(queue.Outbox.Checks).Concat(_lines.Entries.Select(entry => entry.ReleasedBy).OfType<PoolHold>()).ToList())
        {
            Unlocked(hold, wasHeld);
        }

        (queue.Round, _lines.OthersListen) = (null, false);
        _lines.Held.Clear();
        queue.Outbox.Clear();
        foreach (var entry in _lines.Entries)
        {
            entry.Become(PoolEntry.OnServer.None, _lines.Now);
            (entry.Holders, entry.ReleasedBy) = (0, null);
            entry.Turn.End();
            entry.Turn.Abandon();
            Claimed(entry, 0);
        }

        foreach (var request in queue.Waiting())
        {
            request.Persists = true;
            if (request.State == PoolRequest.StateOf.Asked)
            {
                AskAgainOrFail(request, new PoolFailure(error));
            }
            else if (request.State == PoolRequest.StateOf.Asking)
            {
                request.State = PoolRequest.StateOf.Queued;
            }
        }

        return lost;
    }) ?? [];

    private T? Say<T>(object owner, PoolRound? round, Func<T> what)
    {
        lock (queue.Gate)
        {
            if (queue.Owner != owner)
            {
                return default;
            }

            if (round?.Caller is { } caller)
            {
                caller.IsKept = true;
            }

            queue.Begin();
            var result = what();
            queue.Finish();
            if (round is not null)
            {
                // It has been answered: an error that comes later says nothing of it.
                queue.Round = null;
                round.Clear();
                if (round.Caller is not null)
                {
                    round.Caller.IsKept = false;
                }
            }

            return result;
        }
    }

    private void Granted(PoolRequest request, PoolEntry[] asked, long token)
    {
        foreach (var entry in asked)
        {
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

    private void AskAgainOrFail(PoolRequest request, PoolFailure failure)
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

    private void Fail(PoolRequest request, Exception error)
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

    private static void Unlocked(PoolHold hold, bool wasHeld)
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

    private void Claimed(PoolEntry entry, int level)
    {
        (entry.Turn.Claimed, entry.Turn.IsClaiming) = (level, false);
        _lines.Touch(entry);
    }
}
