namespace DbLock;

/// <summary>What it means for those who wait and hold that there is no session, or that it has lost something.</summary>
internal sealed class PoolLosses(PoolQueue queue, PoolAnswers answers)
{
    private readonly PoolLines _lines = queue.Lines;

    /// <summary>There is no session to ask over: who has waited since there was one goes on waiting, and the others are told.</summary>
    /// <param name="owner">Who tried to open one.</param>
    /// <param name="error">Why there is none.</param>
    /// <param name="retry">When to try again, in ticks from now.</param>
    /// <param name="allWait">Whether the others wait too, for the end of a session that fell silent.</param>
    /// <returns>Whether anybody waits on.</returns>
    public bool CannotConnect(object owner, Exception error, long retry, bool allWait) => answers.Say(owner, null, () =>
    {
        queue.Trouble = error;
        var waitsOn = false;
        foreach (var request in queue.Waiting())
        {
            if (request.IsTry || request.IsEnded || !(request.Persists || allWait))
            {
                Unask(request);
                answers.Fail(request, error);
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
    public List<PoolHold> Lose(object owner, HashSet<PoolEntry> gone) => answers.Say(owner, null, () =>
    {
        foreach (var request in queue.Waiting().Where(
            request => request.State == PoolRequest.StateOf.Asking && Array.Exists(request.Places, place => gone.Contains(place.Entry))))
        {
            _lines.Unask(request);
            request.State = PoolRequest.StateOf.Queued;
        }

        List<PoolHold> lost = [.. _lines.Held.Where(held => Array.Exists(held.Value.Entries, gone.Contains)).Select(held => held.Key)];
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
    public List<PoolHold> LoseAll(object owner, object? next, Exception error, bool wasHeld = false) => answers.Say(owner, null, () =>
    {
        queue.Owner = next;
        List<PoolHold> lost = [.. _lines.Held.Keys];
        foreach (var (hold, grant) in _lines.Held.ToList())
        {
            hold.IsHeld = false;
            grant.Flow.End();
            hold.Lose();
        }

        var checks = (queue.Round?.Checks ?? []).Concat(queue.Outbox.Checks);
        foreach (var hold in checks.Concat(_lines.Entries.Select(entry => entry.ReleasedBy).OfType<PoolHold>()).ToList())
        {
            PoolAnswers.Unlocked(hold, wasHeld);
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
            answers.Claimed(entry, 0);
        }

        foreach (var request in queue.Waiting())
        {
            request.Persists = true;
            if (request.State == PoolRequest.StateOf.Asked)
            {
                answers.AskAgainOrFail(request, new PoolFailure(error));
            }
            else if (request.State == PoolRequest.StateOf.Asking)
            {
                request.State = PoolRequest.StateOf.Queued;
            }
        }

        return lost;
    }) ?? [];
}
