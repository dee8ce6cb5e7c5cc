namespace DbLock.Tests.Pool;

/// <summary>A server as a pool's queue sees it: who holds what, one answer after the other.</summary>
internal sealed class ModelServer
{
    private readonly Dictionary<(long, bool), List<(object Session, bool Shared)>> _locks = [];

    public int Count => _locks.Count;

    /// <summary>Does what the round says, as the statement of a carrier does.</summary>
    public (string Released, string Acquired) Carry(object session, PoolRound round)
    {
        var (releases, acquires) = round.ToCarry();
        var released = string.Concat(releases.Select(one => Release(session, one) ? '1' : '0'));
        var acquired = string.Concat(acquires.GroupBy(one => one.Group).SelectMany(group => Take(session, [.. group])));
        return (released, acquired);
    }

    public string AreHeld(object session, PoolRound round)
    {
        var (releases, acquires) = round.ToCarry();
        return string.Concat(releases.Concat(acquires).Select(one => IsHeldBy(session, (one.Number, one.IsPair), one.Shared) ? '1' : '0'));
    }

    public bool IsHeldBy(object session, (long, bool) key, bool shared) =>
        _locks.TryGetValue(key, out var holds) && holds.Contains((session, shared));

    public bool TryTake(object session, CarriedLock one)
    {
        var holds = _locks.GetValueOrDefault((one.Number, one.IsPair), []);
        var isClaimed = one.Heeds > 0 && Enumerable.Range(one.Heeds, CarriedLock.HighestClaim - one.Heeds + 1)
            .Select(level => one.Claim(level))
            .Any(claim => _locks.GetValueOrDefault((claim.Number, false), []).Exists(hold => hold.Session != session));
        if (isClaimed || holds.Exists(hold => hold.Session != session && !(hold.Shared && one.Shared)))
        {
            return false;
        }

        holds.Add((session, one.Shared));
        _locks[(one.Number, one.IsPair)] = holds;
        return true;
    }

    public bool Release(object session, CarriedLock one)
    {
        if (!_locks.TryGetValue((one.Number, one.IsPair), out var holds) || !holds.Remove((session, one.Shared)))
        {
            return false;
        }

        if (holds.Count == 0)
        {
            _locks.Remove((one.Number, one.IsPair));
        }

        return true;
    }

    public void End(object session)
    {
        foreach (var (key, holds) in _locks.ToList())
        {
            holds.RemoveAll(hold => hold.Session == session);
            if (holds.Count == 0)
            {
                _locks.Remove(key);
            }
        }
    }

    private IEnumerable<char> Take(object session, CarriedLock[] group)
    {
        var taken = Array.ConvertAll(group, one => TryTake(session, one));
        if (Array.TrueForAll(taken, one => one))
        {
            return taken.Select(_ => '1');
        }

        foreach (var (one, _) in group.Zip(taken).Where(pair => pair.Second))
        {
            Release(session, one);
        }

        return taken.Select(one => one ? '2' : '0');
    }
}
