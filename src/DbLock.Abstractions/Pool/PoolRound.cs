namespace DbLock;

/// <summary>What is sent to the server together, in one statement.</summary>
internal sealed class PoolRound
{
    /// <summary>Gets or sets the caller whose own thread sends it; null when another thread does.</summary>
    public PoolPromise? Caller { get; set; }

    public List<PoolRequest> Asks { get; } = [];

    public List<CarriedLock> Acquires { get; } = [];

    public List<PoolEntry> Released { get; } = [];

    public List<CarriedLock> Releases { get; } = [];

    /// <summary>Gets the holds that were handed over in memory and whose callers wait for an answer of the carrier.</summary>
    public List<PoolHold> Checks { get; } = [];

    /// <summary>Gets the claims that change: for which key, which level is given up, and which is taken; 0 for none.</summary>
    public List<(PoolEntry Entry, int From, int To)> Claims { get; } = [];

    /// <summary>Gets or sets the pool's name for those who listen; empty when they are not told.</summary>
    public string Bell { get; set; } = "";

    /// <summary>Gets or sets whether the lock is taken that shows that this pool listens.</summary>
    public bool Marks { get; set; }

    /// <summary>Gets or sets whether that lock is let go.</summary>
    public bool Unmarks { get; set; }

    /// <summary>Gets or sets whether the carrier is asked how many locks it holds.</summary>
    public bool Beats { get; set; }

    /// <summary>Gets or sets whether the carrier is not needed any more.</summary>
    public bool Closes { get; set; }

    /// <summary>Gets whether there is anything to send.</summary>
    public bool HasStatement => Asks.Count > 0 || Released.Count > 0 || Checks.Count > 0 || Claims.Count > 0 || Marks || Unmarks || Beats;

    public bool IsEmpty => !HasStatement && !Closes;

    /// <summary>Gets whether its lists have grown larger than most rounds need, so that it is not worth keeping.</summary>
    public bool IsLarge => Acquires.Capacity > 256 || Releases.Capacity > 256 || Checks.Capacity > 256 || Claims.Capacity > 256;

    public void Ask(PoolRequest request, long now, bool othersListen)
    {
        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.Server == PoolEntry.OnServer.Asked)
            {
                var heeds = othersListen && !request.IsTry ? entry.Turn.Heeds(request.AnswersBell, request.Interval, now) : 0;
                Acquires.Add(entry.ToCarry(Asks.Count, heeds));
            }
        }

        request.State = PoolRequest.StateOf.Asked;
        Asks.Add(request);
    }

    public void Release(PoolEntry entry)
    {
        Releases.Add(entry.ToCarry());
        Released.Add(entry);
    }

    /// <summary>
    /// Returns all locks to let go of and all to take: first those of holds, then the claims, then the lock that shows that this pool
    /// listens.
    /// </summary>
    public (List<CarriedLock> Releases, List<CarriedLock> Acquires) ToCarry()
    {
        if (Claims.Count == 0 && !Marks && !Unmarks)
        {
            return (Releases, Acquires);
        }

        List<CarriedLock> releases = [.. Releases], acquires = [.. Acquires];
        foreach (var (entry, from, to) in Claims)
        {
            if (from > 0)
            {
                releases.Add(entry.ToCarry().Claim(from));
            }

            if (to > 0)
            {
                acquires.Add(entry.ToCarry().Claim(to, -acquires.Count - 2));
            }
        }

        if (Unmarks)
        {
            releases.Add(LockCarrier.Listening);
        }

        if (Marks)
        {
            acquires.Add(LockCarrier.Listening with { Group = -1 });
        }

        return (releases, acquires);
    }

    /// <summary>Empties it for a new round.</summary>
    public void Begin()
    {
        Clear();
        (Caller, Closes) = (null, false);
    }

    /// <summary>Forgets what was answered.</summary>
    public void Clear()
    {
        Asks.Clear();
        Acquires.Clear();
        Released.Clear();
        Releases.Clear();
        Checks.Clear();
        Claims.Clear();
        (Bell, Marks, Unmarks, Beats) = ("", false, false, false);
    }

    /// <summary>Takes out the requests for which there is no room, and returns them.</summary>
    public List<PoolRequest> Limit(long room) => TakeOut((_, count) => Acquires.Count + count > room);

    /// <summary>Takes out requests, and returns them.</summary>
    /// <param name="isOut">Says so of a request and of how many locks it asks for, before it is added to those that stay.</param>
    public List<PoolRequest> TakeOut(Func<PoolRequest, int, bool> isOut)
    {
        List<PoolRequest> without = [];
        List<CarriedLock> acquires = [.. Acquires];
        PoolRequest[] all = [.. Asks];
        Asks.Clear();
        Acquires.Clear();
        var first = 0;
        foreach (var request in all)
        {
            var count = request.CountAsked();
            if (!isOut(request, count))
            {
                Acquires.AddRange(acquires.GetRange(first, count).Select(one => one with { Group = Asks.Count }));
                Asks.Add(request);
            }
            else
            {
                without.Add(request);
            }

            first += count;
        }

        return without;
    }
}
