namespace DbLock;

/// <summary>What a pool knows of one key: its state on the server, how many tasks hold it, and who waits for it.</summary>
internal sealed class PoolEntry(LockKey key)
{
    private PoolPlace? _first;
    private PoolPlace? _last;

    public (long Number, bool IsPair) Identity => (key.Number, key.IsPair);

    /// <summary>Gets the name of the key for which it was made.</summary>
    public string Name => key.Name;

    /// <summary>Gets the state of the key on the server.</summary>
    public OnServer Server { get; private set; }

    /// <summary>Gets since when the key has been in that state, or since when its present holder has it.</summary>
    public long Since { get; private set; }

    /// <summary>Gets or sets when the server last refused the key because another process has it; -1 for never.</summary>
    public long RefusedAt { get; set; } = -1;

    /// <summary>Gets or sets whether the key is held shared on the server, or is to be.</summary>
    public bool Shared { get; set; }

    /// <summary>Gets or sets how many tasks hold the key.</summary>
    public int Holders { get; set; }

    /// <summary>Gets or sets the fencing token of the last grant; 0 for none.</summary>
    public long Token { get; set; }

    /// <summary>Gets or sets the hold whose release the server is being told of.</summary>
    public PoolHold? ReleasedBy { get; set; }

    public PoolTurn Turn { get; } = new();

    /// <summary>
    /// Gets or sets how many of the waiting requests are to be answered as soon as it is known that they cannot have the key.
    /// </summary>
    public int Last { get; set; }

    /// <summary>Gets or sets whether the key must be looked at before the queue's lock is left.</summary>
    public bool IsTouched { get; set; }

    /// <summary>Gets whether any request waits for the key.</summary>
    public bool IsWaitedFor => _first is not null;

    /// <summary>
    /// Gets the first place in the key's line; null when nobody stands there. A set of keys that waits in the line of another key alone is
    /// passed over.
    /// </summary>
    public PoolPlace? Head
    {
        get
        {
            var place = _first;
            while (place is not null && !place.Request.StandsIn(this))
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

    public void Become(OnServer server, long now) => (Server, Since) = (server, now);

    public void Add(PoolPlace place)
    {
        place.Previous = _last;
        _ = _last is null ? _first = place : _last.Next = place;
        _last = place;
    }

    public void Remove(PoolPlace place)
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

    public CarriedLock ToCarry(int group = 0, int heeds = 0) => new(key.Number, key.IsPair, Shared, group, heeds) { Key = key };

    /// <summary>The states of a key on the server.</summary>
    public enum OnServer : byte
    {
        /// <summary>The pool does not hold the key.</summary>
        None,

        /// <summary>The server is being asked for the key, for the first request in its line.</summary>
        Asked,

        /// <summary>The pool holds the key.</summary>
        Held,

        /// <summary>The pool is letting go of the key.</summary>
        Releasing,
    }
}
