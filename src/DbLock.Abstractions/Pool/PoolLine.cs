namespace DbLock;

/// <summary>A key of a pool, with the requests that wait for it in this process.</summary>
internal sealed class PoolLine(LockKey key) : PoolEntry(key)
{
    private PoolRequest.Place? _first;
    private PoolRequest.Place? _last;

    /// <summary>Gets whether any request waits for the key.</summary>
    public bool IsWaitedFor => _first is not null;

    /// <summary>
    /// Gets the first place in the key's line; null when nobody stands there. A set of keys that waits in the line of another key alone is
    /// passed over.
    /// </summary>
    public PoolRequest.Place? Head
    {
        get
        {
            var place = _first;
            while (place is { Stands: false })
            {
                place = place.Next;
            }

            return place;
        }
    }

    /// <summary>Gets the requests that wait for the key, in their order.</summary>
    public IEnumerable<PoolRequest> Waiting
    {
        get
        {
            for (var place = _first; place is not null; place = place.Next)
            {
                yield return place.Request;
            }
        }
    }

    /// <summary>Returns the line of a key. A pool has no keys without one.</summary>
    public static PoolLine Of(PoolEntry entry) => (PoolLine)entry;

    public void Add(PoolRequest.Place place)
    {
        place.Previous = _last;
        _ = _last is null ? _first = place : _last.Next = place;
        _last = place;
    }

    public void Remove(PoolRequest.Place place)
    {
        if (_first != place && place.Previous is null)
        {
            return;
        }

        _ = place.Previous is null ? _first = place.Next : place.Previous.Next = place.Next;
        _ = place.Next is null ? _last = place.Previous : place.Next.Previous = place.Previous;
        (place.Previous, place.Next) = (null, null);
    }

    /// <summary>Says whether a request may join those who hold it.</summary>
    public bool MayBeJoinedBy(PoolRequest request) => Server == OnServer.Held && Shared && request.Shared;
}
