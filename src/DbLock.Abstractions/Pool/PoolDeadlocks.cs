namespace DbLock;

/// <summary>Finds tasks of a pool that wait for each other in a circle.</summary>
/// <remarks>
/// A task is taken to hold the locks that were acquired around its wait, in its own method or in those that called it, and that are still
/// held. Others may be able to release them: a worker that was handed the lock, or the task that started this one. So a wait for a lock
/// that was acquired around it is no deadlock; it is only logged.
/// </remarks>
internal static class PoolDeadlocks
{
    public static readonly long Patience = TimeSpan.FromSeconds(1).Ticks;

    /// <summary>
    /// Finds a circle of requests that wait for each other and have done so since before a given time, and returns the one that began last;
    /// null when there is no circle.
    /// </summary>
    /// <param name="lines">What is held and waited for.</param>
    /// <param name="since">The time.</param>
    /// <param name="suspect">It is called, once, for each request that waits for a lock which was acquired around it.</param>
    public static PoolRequest? Find(PoolLines lines, long since, Action<PoolRequest> suspect)
    {
        // Requests that hold nothing cannot be part of a circle, and are left out first: there may be thousands, and this runs again and
        // again.
        var old = lines.Entries.SelectMany(entry => entry.Waiting)
            .Where(request => request.State == PoolRequest.StateOf.Queued && request.Start <= since);
        if (!old.Any(request => request.Flow.IsUnderLock))
        {
            return null;
        }

        var waiting = old.ToHashSet();

        // The edges of the graph: a hold leads to the request that its task waits for, and a key to the hold of it.
        var waits = waiting.SelectMany(request => request.Flow.Around.Select(hold => (hold, request)))
            .ToLookup(pair => pair.hold, pair => pair.request);
        var holds = lines.Held.SelectMany(held => held.Value.Entries.Select(entry => (Entry: entry, Hold: held.Key)))
            .ToLookup(pair => pair.Entry, pair => pair.Hold);
        foreach (var request in waiting.Where(request => !request.IsSuspected && IsAroundItself(request)))
        {
            request.IsSuspected = true;
            suspect(request);
        }

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
                    // If a request that holds something is in the circle, it is chosen rather than one that only stands in line before it:
                    // ending it releases something.
                    var circle = path.SkipWhile(request => request != step.Request).ToList();
                    return circle.Where(request => request.Flow.IsUnderLock).MaxBy(request => request.Number)
                        ?? circle.MaxBy(request => request.Number);
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

        bool IsAroundItself(PoolRequest request) => request.Places.Any(place => holds[place.Entry].Intersect(request.Flow.Around).Any());

        static PoolRequest.Place? Before(PoolRequest.Place place)
        {
            var before = place.Previous;
            while (before is { Stands: false })
            {
                before = before.Previous;
            }

            return before;
        }

        IEnumerable<PoolRequest> Blockers(PoolRequest request) => request.Places.SelectMany(
            place => Before(place) is { } before
                ? (waiting.Contains(before.Request) ? [before.Request] : [])
                : holds[place.Entry].Except(request.Flow.Around).SelectMany(holder => waits[holder]));
    }

    public static LockDeadlockException Error(PoolRequest victim)
    {
        var held = victim.Flow.Around.Select(hold => $"'{hold.Key}'").Distinct();
        return new LockDeadlockException(
            $"The wait for lock '{victim.Key}' was ended to break a deadlock: whoever holds it waits, in a circle, "
            + "for what was acquired around this wait and is still held: "
            + $"{string.Join(", ", held)}. The lock is not acquired. Release what is held, so that the others can go on, then try again.",
            null);
    }
}
