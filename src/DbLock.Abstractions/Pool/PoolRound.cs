namespace DbLock;

/// <summary>What goes to the server together.</summary>
internal sealed class PoolRound
{
    /// <summary>Gets or sets whom it is said to; null until there is one.</summary>
    public Carrier? Carrier { get; set; }

    public List<PoolRequest> Asks { get; } = [];

    public List<CarriedLock> Acquires { get; } = [];

    public List<PoolEntry> Released { get; } = [];

    public List<CarriedLock> Releases { get; } = [];

    /// <summary>Gets what was handed over in memory, by whom an answer of the carrier is waited for.</summary>
    public List<PooledLock> Checks { get; } = [];

    public List<(LockKey Key, TaskCompletionSource<LockHolders?> Answer)> Questions { get; } = [];

    /// <summary>Gets or sets whether it is said that this pool listens.</summary>
    public bool Marks { get; set; }

    /// <summary>Gets or sets whether it is said that this pool listens no more.</summary>
    public bool Unmarks { get; set; }

    /// <summary>Gets or sets whether the carrier is asked how many locks it holds.</summary>
    public bool Beats { get; set; }

    /// <summary>Gets or sets whether the carrier is not needed any more.</summary>
    public bool Closes { get; set; }

    /// <summary>Gets or sets whether the pool ends.</summary>
    public bool IsLast { get; set; }

    /// <summary>Gets whether there is anything to say to the server.</summary>
    public bool IsSaid => Asks.Count > 0 || Released.Count > 0 || Checks.Count > 0 || Marks || Unmarks || Beats;

    public bool IsEmpty => !IsSaid && Questions.Count == 0 && !Closes;

    public void Ask(PoolRequest request)
    {
        Acquires.AddRange(request.AskedFor.Select(entry => entry.ToCarry(Asks.Count)));
        request.IsSent = true;
        Asks.Add(request);
    }

    public void Release(PoolEntry entry)
    {
        Releases.Add(entry.ToCarry());
        Released.Add(entry);
    }

    /// <summary>Forgets what has been answered.</summary>
    public void Clear()
    {
        Asks.Clear();
        Acquires.Clear();
        Released.Clear();
        Releases.Clear();
        Checks.Clear();
        (Marks, Unmarks, Beats) = (false, false, false);
    }

    /// <summary>Takes out those for which there is no room.</summary>
    public List<PoolRequest> Limit(long room)
    {
        List<PoolRequest> all = [.. Asks], without = [];
        Asks.Clear();
        Acquires.Clear();
        foreach (var request in all)
        {
            if (Acquires.Count + request.Places.Length <= room)
            {
                Ask(request);
            }
            else
            {
                request.IsSent = false;
                without.Add(request);
            }
        }

        return without;
    }
}
