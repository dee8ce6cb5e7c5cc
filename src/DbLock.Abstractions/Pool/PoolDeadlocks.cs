namespace DbLock;

/// <summary>Finds tasks of a pool that wait for each other in a circle.</summary>
/// <remarks>
/// What a task holds is what was acquired around its wait, in its own method or in those that called it, and is still held. Whoever else
/// has a part in such a flow may let go of it: a worker that was handed the lock, or the task that started this one. So a wait for what was
/// acquired around it is no deadlock; it is only logged.
/// </remarks>
internal static class PoolDeadlocks
{
    public static readonly long Patience = TimeSpan.FromSeconds(1).Ticks;

    /// <summary>
    /// Returns the last to begin of those that wait for each other, each since before a moment; null when there are none.
    /// </summary>
    /// <param name="lines">What is held and waited for.</param>
    /// <param name="since">The moment.</param>
    /// <param name="suspect">Is told, once, of each that waits for what was acquired around it.</param>
    public static PoolRequest? Find(PoolLines lines, long since, Action<PoolRequest> suspect)
    {
        // Thousands may wait while they hold nothing, and this is looked for again and again.
        var old = lines.Entries.SelectMany(entry => entry.Waiting)
            .Where(request => request.State == PoolRequest.StateOf.Queued && request.Start <= since);
        if (!old.Any(request => request.Flow.IsUnderLock))
        {
            return null;
        }

        var waiting = old.ToHashSet();

        // What stands still because of whom: a lock for what its task waits for, a key for what holds it.
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
                    // Who holds something is asked to let go of it, if it is only in the line of one who does.
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

        static PoolPlace? Before(PoolPlace place)
        {
            var before = place.Previous;
            while (before is not null && !before.Request.StandsIn(place.Entry))
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
