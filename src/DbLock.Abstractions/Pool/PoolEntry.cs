namespace DbLock;

/// <summary>What a pool knows of one key: what the carrier holds of it, how many tasks hold it, and who waits for it.</summary>
internal sealed class PoolEntry(long number, bool isPair)
{
    private PoolPlace? _first;
    private PoolPlace? _last;

    public (long Number, bool IsPair) Identity => (number, isPair);

    /// <summary>Gets what the carrier has of it on the server.</summary>
    public OnServer Server { get; private set; }

    /// <summary>Gets since when that is so, or since when its holder has it.</summary>
    public long Since { get; private set; }

    /// <summary>Gets or sets when the server last said that another process has it; -1 for never.</summary>
    public long RefusedAt { get; set; } = -1;

    /// <summary>Gets or sets whether it is, or is to be, held shared there.</summary>
    public bool Shared { get; set; }

    /// <summary>Gets or sets how many tasks hold it.</summary>
    public int Holders { get; set; }

    /// <summary>Gets or sets the fencing token of the last grant; 0 for none.</summary>
    public long Token { get; set; }

    /// <summary>Gets or sets whose release the server is being told of.</summary>
    public PoolHold? ReleasedBy { get; set; }

    public PoolTurn Turn { get; } = new();

    /// <summary>Gets or sets how many of those who wait are to be told as soon as it is known that they cannot have it.</summary>
    public int Last { get; set; }

    /// <summary>Gets or sets whether it is looked at before the lock of the queue is left.</summary>
    public bool IsTouched { get; set; }

    /// <summary>Gets whether anybody waits for it.</summary>
    public bool IsWaitedFor => _first is not null;

    /// <summary>Gets the first who stands in its line; null when nobody does. A set that lacks another key has stepped out.</summary>
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

    /// <summary>Gets who waits for it, in their order.</summary>
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

    public CarriedLock ToCarry(int group = 0, int heeds = 0) => new(number, isPair, Shared, group, heeds);

    /// <summary>The states of a key on the server.</summary>
    public enum OnServer : byte
    {
        /// <summary>The carrier does not hold it.</summary>
        None,

        /// <summary>It is being asked for, by the first of its line.</summary>
        Asked,

        /// <summary>The carrier holds it.</summary>
        Held,

        /// <summary>It is being let go.</summary>
        Releasing,
    }
}
