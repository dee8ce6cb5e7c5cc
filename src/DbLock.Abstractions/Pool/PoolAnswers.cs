namespace DbLock;

/// <summary>
/// Applies the server's answers, errors and silence to those who wait and hold. Only the conversation that owns the queue may apply
/// anything.
/// </summary>
/// <param name="queue">The queue.</param>
/// <param name="noRoom">Makes the exception for a request that finds the server's lock table full.</param>
internal sealed class PoolAnswers(PoolQueue queue, Func<PoolRequest, Exception?, LockException> noRoom)
{
    // How often a request is sent again after an error. A round serves many requests, and somebody's cancel or a timeout of the server may
    // hit it.
    private const int Attempts = 10;

    private static readonly long ShortestPoll = TimeSpan.FromMilliseconds(100).Ticks;
    private static readonly long LongestPoll = TimeSpan.FromSeconds(1).Ticks;

    // Polls are due at multiples of this time, so that many tasks are polled for in one round.
    private static readonly long PollGrid = TimeSpan.FromMilliseconds(50).Ticks;

    private readonly PoolLines _lines = queue.Lines;
    private long _took;

    /// <summary>Sets how long the last round took, in ticks. What is polled for is polled for less often then.</summary>
    public long Took
    {
        set => _took = value;
    }

    /// <summary>Takes what is to be sent next. The caller holds the queue's lock.</summary>
    /// <param name="owner">The conversation that asks.</param>
    /// <param name="round">The round to fill: a new one, or the one before, which is over.</param>
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

    /// <summary>Applies the server's answer to a round.</summary>
    /// <param name="owner">The conversation that was answered.</param>
    /// <param name="round">The round.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="took">How long it took, in ticks.</param>
    /// <param name="more">How many locks the session holds that are not held for the queue.</param>
    /// <returns>
    /// If the server holds another number of locks than the queue believes: the keys that the queue believes to be held. Null otherwise.
    /// </returns>
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

        // A key that is being let go is left out: the answer to its release tells whether it was held.
        return [.. _lines.Entries.Where(entry => entry.Server == PoolEntry.OnServer.Held)];
    }

    /// <summary>
    /// Applies what is held after a round has ended in an error. The server was asked for each lock of the round, first for those that were
    /// to be let go.
    /// </summary>
    public void Mend(object owner, PoolRound round, string held, PoolFailure failure, bool isFenced) => IfOwner(owner, round, () =>
    {
        for (var i = 0; i < round.Released.Count; i++)
        {
            if (held[i] == '1')
            {
                queue.Outbox.Releases.Add(round.Released[i]);
            }
            else
            {
                // The statement that would have told the listeners has failed. They find out by polling.
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

            // If only a part of a set was taken, or the token that was asked for is missing, everything that was taken is let go again.
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

    /// <summary>Takes the shared locks out of a round, which the server does not have.</summary>
    public void RefuseShared(object owner, PoolRound round, string engine) => IfOwner(owner, null, () =>
    {
        foreach (var request in round.TakeOut(static (request, _) => request.Shared))
        {
            _lines.Unask(request);
            Fail(request, PoolReports.NoShared(engine));
        }

        return true;
    });

    /// <summary>Takes out of a round the requests for which the server has no room.</summary>
    public void Limit(object owner, PoolRound round, long room) => IfOwner(owner, null, () =>
    {
        foreach (var request in round.Limit(room))
        {
            if (round.Asks.Count > 0 && !request.IsLate)
            {
                // These requests are asked for in the next round. The requests before them may need no room after all, because most of
                // their locks may be held elsewhere.
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

    /// <summary>Runs something under the queue's lock, if the conversation owns the queue.</summary>
    /// <param name="owner">The conversation.</param>
    /// <param name="round">The round that is answered by it; null when no round is.</param>
    /// <param name="what">What to run.</param>
    public T? IfOwner<T>(object owner, PoolRound? round, Func<T> what)
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
            caller.IsHeldBack = true;
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

        // The round has been answered, so a later error does not concern it.
        queue.Round = null;
        round.Clear();
        if (round.Caller is { } caller)
        {
            caller.IsHeldBack = false;
        }
    }

    /// <summary>
    /// Grants what was asked for. The keys of a set that tasks of this process hold shared already are not asked for, and stay as they are.
    /// </summary>
    public void Granted(PoolRequest request, long token)
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

    /// <summary>Notes that another has a key, for which the request waits, or which ends it.</summary>
    public void Refused(PoolRequest request, PoolEntry lacks)
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

    // The request is polled for at intervals that grow, and that are long compared with the time of a round trip.
    private void PollLater(PoolRequest request, PoolEntry lacks)
    {
        request.Interval = request.Interval == 0 ? ShortestPoll : Math.Min(LongestPoll, 2 * request.Interval);
        var due = _lines.Now + Math.Max(request.Interval, Math.Min(LongestPoll, 20 * _took));
        _lines.PutAside(request, due + PollGrid - (due % PollGrid), lacks);
    }

    /// <summary>
    /// Asks again for a request that was not answered, unless the server would answer with the same error or it was asked too often.
    /// </summary>
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

    /// <summary>Notes that the server has let go of a key.</summary>
    public void Unlocked(PoolEntry entry, bool wasHeld, bool othersListen)
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

    /// <summary>Notes that the server has let go of one key of a hold.</summary>
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

    /// <summary>Notes the level that this process's claim on a key has on the server now.</summary>
    public void Claimed(PoolEntry entry, int level)
    {
        (entry.Turn.Claimed, entry.Turn.IsClaiming) = (level, false);
        _lines.Touch(entry);
    }
}
