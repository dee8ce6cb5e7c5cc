namespace DbLock;

/// <summary>Finds tasks of a pool that wait for each other.</summary>
internal static class PoolDeadlock
{
    /// <summary>Returns the last to begin of those that wait for each other, each since before a moment; null when there are none.</summary>
    public static PoolRequest? Find(IEnumerable<PooledLock> held, IEnumerable<PoolEntry> entries, long since)
    {
        // Thousands may wait while they hold nothing, and this is looked for again and again.
        var old = entries.SelectMany(entry => entry.Queue).Where(request => request.State == PoolRequest.StateOf.Queued && request.Start <= since);
        if (!old.Any(request => request.Outer is not null))
        {
            return null;
        }

        var waiting = old.ToHashSet();

        // What stands still because of whom: a lock for what its task waits for, a key for what holds it.
        var waits = waiting.SelectMany(request => Around(request).Select(outer => (outer, request))).ToLookup(pair => pair.outer, pair => pair.request);
        var holds = held.SelectMany(one => one.Request.Places.Select(place => (place.Entry, one.Request))).ToLookup(pair => pair.Entry, pair => pair.Request);
        var seen = new HashSet<PoolRequest>();
        foreach (var start in waiting)
        {
            List<PoolRequest> path = [];
            HashSet<PoolRequest> onPath = [];
            Stack<(PoolRequest Request, int Depth)> next = new([(start, 0)]);
            while (next.TryPop(out var step))
            {
                for (; path.Count > step.Depth; path.RemoveAt(path.Count - 1))
                {
                    onPath.Remove(path[^1]);
                }

                if (onPath.Contains(step.Request))
                {
                    // Who holds something is asked to let go of it, if it is only in the queue of one who does.
                    var cycle = path.SkipWhile(request => request != step.Request).ToList();
                    return cycle.Where(request => request.Outer is not null).MaxBy(request => request.Start) ?? cycle.MaxBy(request => request.Start);
                }

                if (seen.Add(step.Request))
                {
                    path.Add(step.Request);
                    onPath.Add(step.Request);
                    foreach (var blocker in Blockers(step.Request))
                    {
                        next.Push((blocker, path.Count));
                    }
                }
            }
        }

        return null;

        IEnumerable<PoolRequest> Blockers(PoolRequest request) => request.Places.SelectMany(
            place => place.Previous is { } before ? (waiting.Contains(before.Request) ? [before.Request] : []) : holds[place.Entry].SelectMany(holder => waits[holder]));
    }

    public static LockDeadlockException Error(PoolRequest victim)
    {
        var held = Around(victim).Select(outer => $"'{outer.Key}'").Distinct();
        return new LockDeadlockException(
            $"The wait for lock '{victim.Key}' was ended to break a deadlock: whoever holds it waits for what this task holds. The lock is not acquired. "
            + $"This task still holds {string.Join(", ", held)}: release it, so that the others can go on, then try again.",
            null);
    }

    private static IEnumerable<PoolRequest> Around(PoolRequest request)
    {
        for (var outer = request.Outer; outer is not null; outer = outer.Outer)
        {
            yield return outer;
        }
    }
}
