namespace DbLock;

/// <summary>The tries, and the requests whose time is over. They are answered as soon as it is known that they cannot be granted.</summary>
internal sealed class PoolLast
{
    // For how long a refusal of the server is good as an answer. A task that waits for another process is polled for after a second at
    // most, so that there is a newer one then.
    private static readonly long Fresh = TimeSpan.FromMilliseconds(1500).Ticks;

    private readonly HashSet<PoolRequest> _requests = [];
    private readonly HashSet<PoolLine> _touched = [];

    public int Count => _requests.Count;

    public void Add(PoolRequest request)
    {
        request.IsLast = true;
        if (_requests.Add(request))
        {
            foreach (var place in request.Places)
            {
                place.Entry.Last++;
                _touched.Add(PoolLine.Of(place.Entry));
            }
        }
    }

    public void Remove(PoolRequest request)
    {
        if (_requests.Remove(request))
        {
            Array.ForEach(request.Places, place => place.Entry.Last--);
        }
    }

    /// <summary>Notes that something about a key has changed.</summary>
    public void Touch(PoolLine entry)
    {
        if (entry.Last > 0)
        {
            _touched.Add(entry);
        }
    }

    /// <summary>Returns the requests for which the answer is known by now; null when nothing has changed.</summary>
    public List<PoolRequest>? TakeKnown(long now)
    {
        if (_touched.Count == 0)
        {
            return null;
        }

        List<PoolRequest> known = [];
        foreach (var entry in _touched)
        {
            foreach (var request in entry.Waiting)
            {
                if (_requests.Contains(request) && request.State != PoolRequest.StateOf.Asked && IsHeld(request, now))
                {
                    known.Add(request);
                }
            }
        }

        _touched.Clear();
        return known;
    }

    /// <summary>
    /// Says whether it is known that a request cannot be granted now: tasks of this process hold a key, or the server has said recently
    /// that another process does.
    /// </summary>
    public static bool IsHeld(PoolRequest request, long now) =>
        request is { State: PoolRequest.StateOf.Elsewhere, WasElsewhere: true }
            || Array.Exists(request.Places, place => IsHeld(place, now));

    private static bool IsHeld(PoolRequest.Place place, long now)
    {
        var (entry, request) = (PoolLine.Of(place.Entry), place.Request);
        if (entry.Server == PoolEntry.OnServer.None && entry.RefusedAt >= request.Start && now - entry.RefusedAt < Fresh)
        {
            return true;
        }

        return entry.Head is { } head && head != place
            ? entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing
                || head.Request is { State: PoolRequest.StateOf.Elsewhere, WasElsewhere: true }
            : entry.Server == PoolEntry.OnServer.Held && !entry.MayBeJoinedBy(request);
    }
}
