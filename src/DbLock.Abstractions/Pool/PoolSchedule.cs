namespace DbLock;

/// <summary>Requests in the order of a time that each of them has.</summary>
/// <param name="get">Reads that time.</param>
/// <param name="set">Sets it.</param>
internal sealed class PoolSchedule(Func<PoolRequest, long> get, Action<PoolRequest, long> set)
{
    private readonly SortedSet<PoolRequest> _requests = new(Comparer<PoolRequest>.Create((one, other) =>
    {
        var order = get(one).CompareTo(get(other));
        return order != 0 ? order : one.Number.CompareTo(other.Number);
    }));

    public int Count => _requests.Count;

    /// <summary>Gets the earliest time; <see cref="long.MaxValue"/> when there is none.</summary>
    public long Next => _requests.Min is { } first ? get(first) : long.MaxValue;

    public void Set(PoolRequest request, long at)
    {
        Remove(request);
        if (at != long.MaxValue)
        {
            set(request, at);
            _requests.Add(request);
        }
    }

    public void Remove(PoolRequest request)
    {
        if (get(request) != long.MaxValue)
        {
            _requests.Remove(request);
            set(request, long.MaxValue);
        }
    }

    public bool Any(Func<PoolRequest, bool> matches) => _requests.Any(matches);

    /// <summary>Removes and returns the first request that is due; null when none is.</summary>
    public PoolRequest? TakeDue(long now)
    {
        if (_requests.Min is { } first && get(first) <= now)
        {
            Remove(first);
            return first;
        }

        return null;
    }
}
