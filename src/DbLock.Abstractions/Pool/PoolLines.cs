namespace DbLock;

/// <summary>
/// The lines of the keys: who waits for which key in this process, who comes next, and what is held. Nothing here waits or does I/O;
/// everything runs under the lock of the <see cref="PoolQueue"/>.
/// </summary>
/// <remarks>
/// The line of each key is first come, first served, with one exception. When a set of keys lacks one that cannot be had for longer than
/// <see cref="Patience"/>, the set waits in the line of that key alone, so that it does not hold up those who want its other keys.
/// </remarks>
internal sealed class PoolLines(PoolOutbox outbox, IPoolOwner owner)
{
    /// <summary>How long a set keeps its place in the lines of free keys while it waits for another key.</summary>
    public static readonly long Patience = TimeSpan.FromMilliseconds(100).Ticks;

    private readonly Dictionary<(long, bool), PoolLine> _entries = [];
    private readonly Queue<PoolLine> _touched = new();

    public Dictionary<(long Number, bool IsPair), PoolLine>.ValueCollection Entries => _entries.Values;

    /// <summary>Gets the holds, with the keys of each and the place in the program's flow at which it was asked for.</summary>
    public Dictionary<PoolHold, (PoolEntry[] Entries, PoolFlow Flow)> Held { get; } = [];

    /// <summary>
    /// Gets the requests that are looked at again at a certain time: those for a key that another process has, and sets that keep their
    /// place for a moment.
    /// </summary>
    public PoolSchedule Due { get; } = new(request => request.Due, (request, at) => request.Due = at);

    /// <summary>Gets the requests that have a deadline.</summary>
    public PoolSchedule Deadlines { get; } = new(request => request.Deadline, (request, at) => request.Deadline = at);

    /// <summary>Gets the requests that are answered as soon as it is known that the lock is held.</summary>
    public PoolLast Last { get; } = new();

    /// <summary>Gets or sets whether pools of other processes listen for releases.</summary>
    public bool OthersListen { get; set; }

    /// <summary>Gets or sets the time at which the present change of the queue happens.</summary>
    public long Now { get; set; }

    public PoolLine? Find((long, bool) identity) => _entries.GetValueOrDefault(identity);

    /// <summary>
    /// Gets or sets whether a key is handed to the next task without the server. A lease is not: its row says who has it since when.
    /// </summary>
    public bool HandsOver { get; set; } = true;

    /// <summary>Gets or sets whether the server is known to lock numbers, so that two names with one number are one lock.</summary>
    public bool LocksNumbers { get; set; }

    /// <summary>
    /// Returns two keys of one number and different names, one of which is asked for; null where there are none, and where the server locks
    /// numbers. Here they would be one lock, and are two on a server that locks names.
    /// </summary>
    public (string Asked, string Other)? FindNamesakes(LockKey asked)
    {
        if (LocksNumbers)
        {
            return null;
        }

        Dictionary<(long, bool), string> names = [];
        foreach (var key in asked.Keys)
        {
            var identity = (key.Number, key.IsPair);
            var other = Find(identity)?.Name ?? names.GetValueOrDefault(identity, key.Name);
            if (other != key.Name)
            {
                return (key.Name, other);
            }

            names[identity] = key.Name;
        }

        return null;
    }

    /// <summary>Puts a request into the line of each of its keys.</summary>
    public void Enter(PoolRequest request)
    {
        request.Places = request.Key.IsSeveral ? PlacesOfSet(request) : [new PoolRequest.Place(request, Line(request.Key))];
        foreach (var place in request.Places)
        {
            var line = PoolLine.Of(place.Entry);
            line.Add(place);
            Touch(line);
        }
    }

    /// <summary>Notes that a key must be looked at before the queue's lock is left.</summary>
    public void Touch(PoolEntry entry)
    {
        if (!entry.IsTouched)
        {
            entry.IsTouched = true;
            _touched.Enqueue(PoolLine.Of(entry));
        }
    }

    /// <summary>
    /// Looks at all keys that were noted. A request that is first in all its lines is granted what the pool holds, or the server is asked
    /// for the rest.
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
                // The claim is given up. If the key is held, the server is told with its release.
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

    /// <summary>Grants a request: the server has given its keys to this process, or it shares them with other tasks.</summary>
    public void Grant(PoolRequest request)
    {
        foreach (var place in request.Places)
        {
            var line = PoolLine.Of(place.Entry);
            line.Remove(place);
            Touch(line);
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
            // The caller has cancelled meanwhile, so that the keys are let go again.
            foreach (var entry in entries)
            {
                LeaveHold(entry, null);
            }

            return;
        }

        var hold = new PoolHold(request.Key, request.Shared, token) { Lease = entries[0].Lease };
        Held.Add(hold, (entries, request.Flow));
        request.Flow.Begin(hold);
        request.End(new PooledLock(owner, hold));
    }

    /// <summary>Ends a hold: its keys go to the next requests, or the server is told to let go of them.</summary>
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

    /// <summary>Ends a request that was not granted. Another may be first in its lines then.</summary>
    public void Leave(PoolRequest request)
    {
        Due.Remove(request);
        Deadlines.Remove(request);
        Last.Remove(request);
        request.State = PoolRequest.StateOf.Over;
        foreach (var place in request.Places)
        {
            var line = PoolLine.Of(place.Entry);
            line.Remove(place);
            Touch(line);
        }
    }

    /// <summary>
    /// Takes back that a request is asked for: keys that the server has not given become free, and keys that were to be shared with other
    /// tasks are let go.
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

    /// <summary>Says whether a request waits for which the server has said that another process has its key.</summary>
    public bool HasElsewhere() => Due.Any(request => request is { State: PoolRequest.StateOf.Elsewhere, WasElsewhere: true });

    /// <summary>Sets a request aside until a time, or until a release is heard of.</summary>
    public void PutAside(PoolRequest request, long due, PoolEntry? lacks)
    {
        request.State = PoolRequest.StateOf.Elsewhere;
        Due.Set(request, due);
        Lack(request, lacks);
    }

    /// <summary>Ends the setting aside of a request, so that it stands in its lines again.</summary>
    public void PutBack(PoolRequest request)
    {
        Due.Remove(request);
        request.State = PoolRequest.StateOf.Queued;
        TouchAll(request);
    }

    /// <summary>Notes that all keys of a request must be looked at.</summary>
    public void TouchAll(PoolRequest request) => Array.ForEach(request.Places, place => Touch(place.Entry));

    // Apart from the plain case, in which what this one remembers for its Select would be allocated, too.
    private PoolRequest.Place[] PlacesOfSet(PoolRequest request) =>
        [.. request.Key.Keys.DistinctBy(key => (key.Number, key.IsPair)).Select(key => new PoolRequest.Place(request, Line(key)))];

    private PoolLine Line(LockKey key) => Find((key.Number, key.IsPair)) ?? (_entries[(key.Number, key.IsPair)] = new PoolLine(key));

    /// <returns>Whether it was granted. The next request in the line may be granted, too, in that case.</returns>
    private bool Start(PoolRequest request)
    {
        // A set that has left a line is judged as if it still stood there.
        var (isFree, asks, due, lacks, lacked) = (true, false, 0L, default(PoolEntry), request.Lacks);
        request.Lacks = null;
        foreach (var place in request.Places)
        {
            var entry = PoolLine.Of(place.Entry);
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

    // Says whether a key may not become free soon: another process has it, or it has been held or asked for here for longer than the
    // patience of a set.
    private bool IsForLong(PoolLine entry, PoolRequest.Place place) =>
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

    // Notes that one task fewer holds a key.
    private void LeaveHold(PoolEntry entry, PoolHold? hold)
    {
        if (entry.Holders > 0 && --entry.Holders > 0)
        {
            return;
        }

        var line = PoolLine.Of(entry);
        if (HandsOver && line.Head?.Request is { State: PoolRequest.StateOf.Queued, IsSet: false } next && next.Shared == entry.Shared
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
        entry.Turn.ClaimNext(OthersListen && line.IsWaitedFor);
        Touch(line);
    }

    private void SettleClaim(PoolEntry entry)
    {
        if (!entry.Turn.IsClaiming && entry.Turn.Claim != entry.Turn.Claimed)
        {
            outbox.Claims.Add(entry);
        }
    }
}
