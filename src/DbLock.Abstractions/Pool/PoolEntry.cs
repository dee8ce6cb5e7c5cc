namespace DbLock;

/// <summary>What a pool knows of one key: what the carrier holds of it, how many tasks hold it, and who waits for it.</summary>
internal sealed class PoolEntry(long number, bool isPair)
{
    public (long Number, bool IsPair) Identity => (number, isPair);

    /// <summary>Gets or sets what the carrier has of it on the server.</summary>
    public OnServer Server { get; set; }

    /// <summary>Gets or sets whether it is, or is to be, held shared there.</summary>
    public bool Shared { get; set; }

    /// <summary>Gets or sets how many tasks hold it.</summary>
    public int Holders { get; set; }

    /// <summary>Gets or sets the fencing token of the last grant; 0 for none.</summary>
    public long Token { get; set; }

    /// <summary>Gets or sets how often it was handed over since this process's turn began.</summary>
    public int HandOvers { get; set; }

    /// <summary>Gets or sets when this process's turn began, in milliseconds of <see cref="Environment.TickCount64"/>; 0 between turns.</summary>
    public long TurnStart { get; set; }

    /// <summary>Gets or sets until when other processes have their turn.</summary>
    public long NotBefore { get; set; }

    /// <summary>Gets or sets whose release the server is being told of.</summary>
    public PooledLock? ReleasedBy { get; set; }

    /// <summary>Gets the first who waits; null when nobody does.</summary>
    public PoolPlace? First { get; private set; }

    private PoolPlace? Last { get; set; }

    /// <summary>Gets who waits, in their order.</summary>
    public IEnumerable<PoolRequest> Queue
    {
        get
        {
            for (var place = First; place is not null; place = place.Next)
            {
                yield return place.Request;
            }
        }
    }

    public void Add(PoolPlace place)
    {
        place.Previous = Last;
        _ = Last is null ? First = place : Last.Next = place;
        Last = place;
    }

    public void Remove(PoolPlace place)
    {
        if (First != place && place.Previous is null)
        {
            return;
        }

        _ = place.Previous is null ? First = place.Next : place.Previous.Next = place.Next;
        _ = place.Next is null ? Last = place.Previous : place.Next.Previous = place.Previous;
        (place.Previous, place.Next) = (null, null);
    }

    public CarriedLock ToCarry(int group = 0) => new(number, isPair, Shared, group);

    /// <summary>The states of a key on the server.</summary>
    public enum OnServer
    {
        /// <summary>The carrier does not hold it.</summary>
        None,

        /// <summary>It is being asked for, by the first of the queue.</summary>
        Asked,

        /// <summary>The carrier holds it.</summary>
        Held,

        /// <summary>It is being let go.</summary>
        Releasing,
    }
}
