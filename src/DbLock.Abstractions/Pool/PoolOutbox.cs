namespace DbLock;

/// <summary>What the server is to be told in the next round.</summary>
internal sealed class PoolOutbox
{
    /// <summary>Gets or sets how many locks one statement takes at most, and how many it lets go of.</summary>
    public int MostPerStatement { get; set; } = int.MaxValue;

    public Queue<PoolRequest> Asks { get; } = new();

    public List<PoolEntry> Releases { get; } = [];

    /// <summary>
    /// Gets the holds that were handed over in memory and whose callers wait for a confirmation: the next answer shows that the session was
    /// still there.
    /// </summary>
    public List<PoolHold> Checks { get; } = [];

    public HashSet<PoolEntry> Claims { get; } = [];

    public bool IsEmpty => Asks.Count == 0 && Releases.Count == 0 && Checks.Count == 0 && Claims.Count == 0;

    /// <summary>Puts as much of it into a round as fits.</summary>
    public void Fill(PoolRound round, long now, bool othersListen)
    {
        while (Asks.Count > 0 && (round.Asks.Count == 0 || round.Acquires.Count + Asks.Peek().Places.Length <= MostPerStatement))
        {
            var request = Asks.Dequeue();
            if (request.State == PoolRequest.StateOf.Asking)
            {
                round.Ask(request, now, othersListen);
            }
        }

        var released = Math.Min(Releases.Count, MostPerStatement);
        for (var i = 0; i < released; i++)
        {
            round.Release(Releases[i]);
        }

        Releases.RemoveRange(0, released);
        round.Checks.AddRange(Checks);
        Checks.Clear();
        foreach (var entry in Claims)
        {
            if (entry.Turn.Claim != entry.Turn.Claimed)
            {
                entry.Turn.IsClaiming = true;
                round.Claims.Add((entry, entry.Turn.Claimed, entry.Turn.Claim));
            }
        }

        Claims.Clear();
    }

    public void Clear()
    {
        Asks.Clear();
        Releases.Clear();
        Checks.Clear();
        Claims.Clear();
    }
}
