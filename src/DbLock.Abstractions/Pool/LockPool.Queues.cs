namespace DbLock;

/// <content>Who waits for what in this process, and who comes next. All of it under the gate.</content>
public sealed partial class LockPool
{
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
            if (entry.Server == PoolEntry.OnServer.Held && !request.IsTry)
            {
                Drain(entry, now);
            }

            due = Math.Max(due, entry.NotBefore);
        }

        if (due > now && !request.IsTry)
        {
            WaitElsewhere(request, due);
            return false;
        }

        foreach (var entry in request.Entries)
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

    // Tasks share the key, and the turn is another process's: if no more come for a moment, those who share it may come to an end. If they do not, a new turn begins.
    private void Drain(PoolEntry entry, long now)
    {
        if (!_othersListen || MayHandOver(entry))
        {
            entry.NotBefore = 0;
        }
        else if (entry.NotBefore == 0)
        {
            entry.NotBefore = now + DrainMilliseconds;
        }
        else if (now >= entry.NotBefore)
        {
            (entry.NotBefore, entry.TurnStart, entry.HandOvers) = (0, now, 0);
        }
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
        foreach (var entry in held.Request.Entries)
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

        foreach (var entry in request.Entries)
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
        PoolRequest[] waiting = [.. _entries.Values.SelectMany(entry => entry.Queue).Distinct()];
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
}
