namespace DbLock;

/// <summary>What goes to the server together.</summary>
internal sealed class PoolRound
{
    /// <summary>Gets or sets whose own thread says it; null when it is the pump's.</summary>
    public PoolPromise? Caller { get; set; }

    public List<PoolRequest> Asks { get; } = [];

    public List<CarriedLock> Acquires { get; } = [];

    public List<PoolEntry> Released { get; } = [];

    public List<CarriedLock> Releases { get; } = [];

    /// <summary>Gets what was handed over in memory, by whom an answer of the carrier is waited for.</summary>
    public List<PoolHold> Checks { get; } = [];

    /// <summary>Gets the claims that change: for which key, which level is given up and which is taken; 0 for none.</summary>
    public List<(PoolEntry Entry, int From, int To)> Claims { get; } = [];

    /// <summary>Gets or sets what to tell who listens; empty for nothing.</summary>
    public string Bell { get; set; } = "";

    /// <summary>Gets or sets whether it is said that this pool listens.</summary>
    public bool Marks { get; set; }

    /// <summary>Gets or sets whether it is said that this pool listens no more.</summary>
    public bool Unmarks { get; set; }

    /// <summary>Gets or sets whether the carrier is asked how many locks it holds.</summary>
    public bool Beats { get; set; }

    /// <summary>Gets or sets whether the carrier is not needed any more.</summary>
    public bool Closes { get; set; }

    /// <summary>Gets whether there is anything to say to the server.</summary>
    public bool IsSaid => Asks.Count > 0 || Released.Count > 0 || Checks.Count > 0 || Claims.Count > 0 || Marks || Unmarks || Beats;

    public bool IsEmpty => !IsSaid && !Closes;

    /// <summary>Gets whether it has room for more than most rounds need, which would be kept.</summary>
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
    /// Returns all that is let go and all that is taken: first what is for holds, then the claims, then the sign that this pool listens.
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

    /// <summary>Begins anew, as a round in which nothing is said.</summary>
    public void Begin()
    {
        Clear();
        (Caller, Closes) = (null, false);
    }

    /// <summary>Forgets what has been answered.</summary>
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

    /// <summary>Takes out those for which there is no room.</summary>
    public List<PoolRequest> Limit(long room)
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
            if (Acquires.Count + count <= room)
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
