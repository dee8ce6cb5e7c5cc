namespace DbLock;

/// <summary>
/// Who waits for which key in this process, who comes next, and what is held. No waiting and no I/O: all of it under the lock of the <see
/// cref="PoolQueue"/>.
/// </summary>
/// <remarks>
/// First come, first served in the line of each key, with one exception: a set of keys that lacks one which cannot be had for longer than a
/// moment waits in the line of that key alone, so that nobody waits for its other keys because of it.
/// </remarks>
internal sealed class PoolLines(PoolOutbox outbox, IPoolOwner owner)
{
    /// <summary>How long a set keeps its place in the lines of keys that are free while it waits for others.</summary>
    public static readonly long Patience = TimeSpan.FromMilliseconds(100).Ticks;

    private readonly Dictionary<(long, bool), PoolEntry> _entries = [];
    private readonly Queue<PoolEntry> _touched = new();

    public Dictionary<(long Number, bool IsPair), PoolEntry>.ValueCollection Entries => _entries.Values;

    /// <summary>Gets what is held: by which keys, and where in the flow of the program it was asked for.</summary>
    public Dictionary<PoolHold, (PoolEntry[] Entries, PoolFlow Flow)> Held { get; } = [];

    /// <summary>
    /// Gets who is asked for again at a time of its own: what another process has, and sets that keep their place for a moment.
    /// </summary>
    public PoolSchedule Due { get; } = new(request => request.Due, (request, at) => request.Due = at);

    /// <summary>Gets who is given up at a time of its own.</summary>
    public PoolSchedule Deadlines { get; } = new(request => request.Deadline, (request, at) => request.Deadline = at);

    /// <summary>Gets who is to be told as soon as it is known that the lock is held.</summary>
    public PoolLast Last { get; } = new();

    /// <summary>Gets or sets whether another process listens for releases.</summary>
    public bool OthersListen { get; set; }

    /// <summary>Gets or sets the time of what is being done.</summary>
    public long Now { get; set; }

    public PoolEntry? Find((long, bool) identity) => _entries.GetValueOrDefault(identity);

    /// <summary>Puts a request into the line of each of its keys.</summary>
    public void Enter(PoolRequest request)
    {
        var keys = request.Key.Keys;
        request.Places = keys.Count == 1
            ? [new PoolPlace(request, Entry((keys[0].Number, keys[0].IsPair)))]
            : [.. keys.Select(key => (key.Number, key.IsPair)).Distinct().Select(key => new PoolPlace(request, Entry(key)))];
        foreach (var place in request.Places)
        {
            place.Entry.Add(place);
            Touch(place.Entry);
        }
    }

    /// <summary>Has a key looked at before the lock of the queue is left.</summary>
    public void Touch(PoolEntry entry)
    {
        if (!entry.IsTouched)
        {
            entry.IsTouched = true;
            _touched.Enqueue(entry);
        }
    }

    /// <summary>
    /// Has all looked at that are touched: whoever is first everywhere is granted what the pool has, or asks the server for the rest.
    /// </summary>
    public void Drain()
    {
        while (_touched.TryDequeue(out var entry))
        {
            entry.IsTouched = false;
            while (entry.Head?.Request is { State: PoolRequest.StateOf.Queued } first && Start(first))
            {
            }

            if (!entry.IsWaitedFor && entry.Server != PoolEntry.OnServer.Held)
            {
                // With the next release, if the key is held.
                entry.Turn.Abandon();
            }

            SettleClaim(entry);
            Last.Touch(entry);
            if (entry is { Server: PoolEntry.OnServer.None, IsWaitedFor: false, IsTouched: false } && entry.Turn.IsForgotten(Now))
            {
                _entries.Remove(entry.Identity);
            }
        }
    }

    /// <summary>Grants a request what it asked for: the server has it for this process, or it is shared.</summary>
    public void Grant(PoolRequest request)
    {
        foreach (var place in request.Places)
        {
            place.Entry.Remove(place);
            Touch(place.Entry);
        }

        Due.Remove(request);
        Deadlines.Remove(request);
        Last.Remove(request);
        request.State = PoolRequest.StateOf.Over;
        var token = 0L;
        foreach (var place in request.Places)
        {
            token = Math.Max(token, place.Entry.Token);
        }

        var entries = Array.ConvertAll(request.Places, static place => place.Entry);
        foreach (var entry in entries)
        {
            (entry.Token, entry.ReleasedBy) = (token, null);
        }

        if (request.IsEnded)
        {
            // Its caller has gone.
            foreach (var entry in entries)
            {
                LeaveHold(entry, null);
            }

            return;
        }

        var hold = new PoolHold(request.Key, request.Shared, token);
        Held.Add(hold, (entries, request.Flow));
        request.Flow.Begin(hold);
        request.End(new PooledLock(owner, hold));
    }

    /// <summary>Ends a hold: the next who waits has the key, or the server is told.</summary>
    public void LetGo(PoolHold hold)
    {
        Held.Remove(hold, out var grant);
        hold.IsHeld = false;
        grant.Flow.End();
        foreach (var entry in grant.Entries)
        {
            LeaveHold(entry, hold);
        }
    }

    /// <summary>Ends a request that has no hold: the next may come first.</summary>
    public void Leave(PoolRequest request)
    {
        Due.Remove(request);
        Deadlines.Remove(request);
        Last.Remove(request);
        request.State = PoolRequest.StateOf.Over;
        foreach (var place in request.Places)
        {
            place.Entry.Remove(place);
            Touch(place.Entry);
        }
    }

    /// <summary>
    /// Takes back what was to be asked for or has been: what is not held, and what was to be shared with others of this process.
    /// </summary>
    public void Unask(PoolRequest request)
    {
        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.Server == PoolEntry.OnServer.Asked)
            {
                entry.Become(PoolEntry.OnServer.None, Now);
                entry.Turn.End();
                Touch(entry);
            }
            else
            {
                LeaveHold(entry, null);
            }
        }
    }

    /// <summary>Says whether the server has said of anybody who waits that another process has it.</summary>
    public bool HasElsewhere() => Due.Any(request => request is { State: PoolRequest.StateOf.Elsewhere, WasElsewhere: true });

    /// <summary>Puts a request aside until a time, or until a release is heard of.</summary>
    public void PutAside(PoolRequest request, long due, PoolEntry? lacks)
    {
        request.State = PoolRequest.StateOf.Elsewhere;
        Due.Set(request, due);
        Lack(request, lacks);
    }

    /// <summary>Puts a request back into its lines.</summary>
    public void PutBack(PoolRequest request)
    {
        Due.Remove(request);
        request.State = PoolRequest.StateOf.Queued;
        TouchAll(request);
    }

    /// <summary>Has all keys of a request looked at.</summary>
    public void TouchAll(PoolRequest request) => Array.ForEach(request.Places, place => Touch(place.Entry));

    private PoolEntry Entry((long Number, bool IsPair) key) =>
        _entries.TryGetValue(key, out var entry) ? entry : _entries[key] = new PoolEntry(key.Number, key.IsPair);

    /// <returns>Whether it was granted, so that the next may be.</returns>
    private bool Start(PoolRequest request)
    {
        // A set that has stepped out of a line is looked at as if it stood there.
        var (isFree, asks, due, lacks, lacked) = (true, false, 0L, default(PoolEntry), request.Lacks);
        request.Lacks = null;
        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.Head == place && (entry.Server == PoolEntry.OnServer.None || entry.MayBeJoinedBy(request)))
            {
                asks |= entry.Server == PoolEntry.OnServer.None;
                continue;
            }

            isFree = false;
            lacks = lacks is null && IsForLong(entry, place) ? entry : lacks;
        }

        request.Lacks = lacked;
        if (!isFree)
        {
            if (request.IsSet)
            {
                WaitForSet(request, lacks);
            }

            return false;
        }

        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.Server == PoolEntry.OnServer.Held && !request.IsTry)
            {
                entry.Turn.Join(Now, OthersListen);
            }

            due = Math.Max(due, entry.Turn.NotBefore);
        }

        if (due > Now && !request.IsLast)
        {
            PutAside(request, due, lacks: null);
            return false;
        }

        foreach (var place in request.Places)
        {
            var entry = place.Entry;
            if (entry.Server == PoolEntry.OnServer.None)
            {
                entry.Become(PoolEntry.OnServer.Asked, Now);
                entry.Shared = request.Shared;
            }
            else
            {
                entry.Holders++;
                entry.Turn.HandedOver();
            }
        }

        Lack(request, null);
        Due.Remove(request);
        if (!asks)
        {
            Grant(request);
            return true;
        }

        request.State = PoolRequest.StateOf.Asking;
        outbox.Asks.Enqueue(request);
        return false;
    }

    // A key that has been held for longer than a moment, or that another process has, may not come soon.
    private bool IsForLong(PoolEntry entry, PoolPlace place) =>
        (entry.Server != PoolEntry.OnServer.None && Now - entry.Since >= Patience)
        || (entry.Head is { } head && head != place && head.Request is { State: PoolRequest.StateOf.Elsewhere, WasElsewhere: true });

    private void WaitForSet(PoolRequest request, PoolEntry? lacks)
    {
        if (lacks is not null)
        {
            Due.Remove(request);
        }
        else if (request.Due == long.MaxValue)
        {
            Due.Set(request, Now + Patience);
        }

        Lack(request, lacks);
    }

    private void Lack(PoolRequest request, PoolEntry? lacks)
    {
        if (request.Lacks == lacks || !request.IsSet)
        {
            return;
        }

        request.Lacks = lacks;
        foreach (var place in request.Places)
        {
            if (place.Entry != lacks)
            {
                Touch(place.Entry);
            }
        }
    }

    // One task fewer holds it.
    private void LeaveHold(PoolEntry entry, PoolHold? hold)
    {
        if (entry.Holders > 0 && --entry.Holders > 0)
        {
            return;
        }

        if (entry.Head?.Request is { State: PoolRequest.StateOf.Queued, IsSet: false } next && next.Shared == entry.Shared
            && entry.Turn.MayHandOver(Now))
        {
            entry.Become(PoolEntry.OnServer.Held, Now);
            (entry.Holders, entry.Token) = (1, entry.Token == 0 ? 0 : entry.Token + 1);
            entry.Turn.HandedOver();
            Grant(next);
            return;
        }

        entry.Become(PoolEntry.OnServer.Releasing, Now);
        entry.ReleasedBy = hold;
        if (hold is not null)
        {
            hold.Unlocking++;
        }

        outbox.Releases.Add(entry);
        entry.Turn.ClaimNext(OthersListen && entry.IsWaitedFor);
        Touch(entry);
    }

    private void SettleClaim(PoolEntry entry)
    {
        if (!entry.Turn.IsClaiming && entry.Turn.Claim != entry.Turn.Claimed)
        {
            outbox.Claims.Add(entry);
        }
    }
}
