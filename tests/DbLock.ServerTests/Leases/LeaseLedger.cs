using System.Collections.Concurrent;

namespace DbLock.ServerTests;

/// <summary>Who trusted to hold what, from when to when, on the clock of this process.</summary>
internal sealed class LeaseLedger(LockKey[] keys)
{
    private readonly ConcurrentDictionary<string, ConcurrentBag<(long Token, long Began, long Ended)>> _holds = new(keys.Select(
        key => KeyValuePair.Create(key.Name, new ConcurrentBag<(long, long, long)>())));

    public int CountOf(LockKey key) => _holds[key.Name].Count;

    public void Note(LockKey key, long token, long began, long ended)
    {
        foreach (var one in key.Keys)
        {
            _holds[one.Name].Add((token, began, ended));
        }
    }

    public void Check()
    {
        foreach (var (name, holds) in _holds)
        {
            var ordered = holds.OrderBy(hold => hold.Began).ToList();
            foreach (var (before, after) in ordered.Zip(ordered.Skip(1)))
            {
                Assert.True(before.Ended <= after.Began, $"{name}: {before} and {after} overlap.");
                Assert.True(before.Token < after.Token, $"{name}: {before} and {after} have not grown.");
            }
        }
    }
}
