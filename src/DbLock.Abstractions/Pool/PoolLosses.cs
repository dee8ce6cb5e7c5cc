namespace DbLock;

/// <summary>Applies the loss of a session, or of some of its locks, to those who wait and hold.</summary>
internal sealed class PoolLosses(PoolQueue queue, PoolAnswers answers)
{
    private readonly PoolLines _lines = queue.Lines;

    /// <summary>
    /// Notes that there is no session. Requests that already waited when there was one go on waiting; the others are answered with the
    /// error.
    /// </summary>
    /// <param name="owner">The conversation that tried to open one.</param>
    /// <param name="error">Why there is none.</param>
    /// <param name="retry">When to try again, in ticks from now.</param>
    /// <param name="allWait">Whether the other requests go on waiting, too, until a session has ended that fell silent.</param>
    /// <returns>Whether any request goes on waiting.</returns>
    public bool CannotConnect(object owner, Exception error, long retry, bool allWait) => answers.IfOwner(owner, null, () =>
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
    /// Ends the holds of locks that are gone from a session which lives. The server is told to let go of them all the same, so that they
    /// end in the way of every other lock.
    /// </summary>
    /// <returns>The holds that were lost.</returns>
    public List<PoolHold> Lose(object owner, HashSet<PoolEntry> gone) => answers.IfOwner(owner, null, () =>
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

    /// <summary>Tells whoever holds a lock that it ends, before the server is asked to let go of it.</summary>
    /// <param name="owner">The conversation whose session carries them.</param>
    public void TellAll(object owner) => answers.IfOwner(owner, null, () =>
    {
        foreach (var (hold, grant) in _lines.Held)
        {
            Tell(hold, grant.Flow);
        }

        return true;
    });

    /// <summary>Ends all holds, because the session is gone that carried them.</summary>
    /// <param name="owner">The conversation whose session it was.</param>
    /// <param name="next">The conversation that owns the queue from now on.</param>
    /// <param name="error">What happened to it.</param>
    /// <param name="wasHeld">Whether everything that was being let go is known to have been held to the end.</param>
    /// <returns>The holds that were lost.</returns>
    public List<PoolHold> LoseAll(object owner, object? next, Exception error, bool wasHeld = false) => answers.IfOwner(owner, null, () =>
    {
        queue.Owner = next;
        List<PoolHold> lost = [.. _lines.Held.Keys];
        foreach (var (hold, grant) in _lines.Held)
        {
            Tell(hold, grant.Flow);
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

    private static void Tell(PoolHold hold, PoolFlow flow)
    {
        hold.IsHeld = false;
        flow.End();
        hold.Lose();
    }
}
