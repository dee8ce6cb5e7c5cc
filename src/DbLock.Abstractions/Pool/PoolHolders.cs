namespace DbLock;

/// <summary>
/// Asks who holds the locks for which tasks have waited in vain: one question for all tasks that time out together.
/// </summary>
/// <param name="ask">Asks the server, over a connection of its own, so that the pool's work is not held up.</param>
internal sealed class PoolHolders(
    Func<IReadOnlyCollection<LockKey>, CancellationToken, Task<IReadOnlyDictionary<LockKey, LockHolders>>> ask)
{
    // A call must end within its timeout and a second. If the answer has not come by then, the message goes without it.
    private static readonly TimeSpan Limit = TimeSpan.FromMilliseconds(800);

    // The question is delayed by this, so that all tasks that time out at the same moment share it.
    private static readonly TimeSpan Gathering = TimeSpan.FromMilliseconds(20);

    private readonly System.Threading.Lock _gate = new();
    private List<LockKey> _keys = [];
    private Task<IReadOnlyDictionary<LockKey, LockHolders>>? _next;
    private Task _underWay = Task.CompletedTask;

    /// <summary>Asks who holds a lock.</summary>
    /// <returns>Null when that is not known.</returns>
    public async ValueTask<LockHolders?> Ask(LockKey key)
    {
        Task<IReadOnlyDictionary<LockKey, LockHolders>> answer;
        lock (_gate)
        {
            _keys.AddRange(key.Keys);
            answer = _next ??= AskSoon(_underWay);
        }

        try
        {
            var holders = await answer.WaitAsync(Limit).ConfigureAwait(false);
            return key.Keys.Select(holders.GetValueOrDefault).FirstOrDefault(one => one is { Count: > 0 })
                ?? holders.GetValueOrDefault(key.Keys[0]);
        }
        catch (Exception)
        {
            // The answer is for the message about another failure, which an exception from here would hide.
            return null;
        }
    }

    private async Task<IReadOnlyDictionary<LockKey, LockHolders>> AskSoon(Task before)
    {
        await Task.Delay(Gathering).ConfigureAwait(false);
        await before.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        List<LockKey> keys;
        lock (_gate)
        {
            keys = [.. _keys.Distinct()];
            (_keys, _underWay, _next) = ([], _next!, null);
        }

        using var limit = new TimedCancel(Limit);
        return await ask(keys, limit.Token).ConfigureAwait(false);
    }
}
