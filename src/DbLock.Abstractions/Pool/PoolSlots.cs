namespace DbLock;

/// <summary>
/// Acquires any slot of a key in a pool. Each slot is a lock of its own there: they are tried one after the other, and then waited for in
/// the lines of all of them, so that who came first gets whichever comes free first.
/// </summary>
internal static class PoolSlots
{
    /// <summary>Acquires one lock of the pool.</summary>
    public delegate ValueTask<PooledLock?> AcquireOne(LockKey key, TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Acquires any slot.</summary>
    /// <returns>Null when all were held for the whole timeout.</returns>
    public static ValueTask<PooledLock?> Acquire(
        AcquireOne acquire, LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken)
    {
        Admission.CheckSlots(key, shared, nameof(shared));
        return Acquire(acquire, key, timeout, cancellationToken);
    }

    private static async ValueTask<PooledLock?> Acquire(
        AcquireOne acquire, LockKey key, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var limit = Limit.Of(timeout, cancellationToken);
        for (var slot = 1; slot <= key.SlotCount; slot++)
        {
            if (await acquire(key.Slot(slot), TimeSpan.Zero, cancellationToken).ConfigureAwait(false) is { } held)
            {
                return Of(held, key, slot);
            }
        }

        return timeout == TimeSpan.Zero
            ? null : await WaitForAny(acquire, key, limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : timeout, cancellationToken)
                .ConfigureAwait(false);
    }

    private static async ValueTask<PooledLock?> WaitForAny(
        AcquireOne acquire, LockKey key, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        List<Task<(PooledLock? Held, int Slot)>> waits = [.. Enumerable.Range(1, key.SlotCount).Select(slot => Wait(slot, end.Token))];
        try
        {
            while (waits.Count > 0)
            {
                var first = await Task.WhenAny(waits).ConfigureAwait(false);
                waits.Remove(first);
                if (await first.ConfigureAwait(false) is ({ } held, var slot))
                {
                    return Of(held, key, slot);
                }
            }

            return null;
        }
        catch (OperationCanceledException e) when (cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(key, e, cancellationToken);
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
            waits.ForEach(static wait => _ = LetGo(wait));
        }

        async Task<(PooledLock? Held, int Slot)> Wait(int slot, CancellationToken token) =>
            (await acquire(key.Slot(slot), timeout, token).ConfigureAwait(false), slot);
    }

    // What was granted in the same instant goes to the next one in its line.
    private static async Task LetGo(Task<(PooledLock? Held, int Slot)> wait)
    {
        await ((Task)wait).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (wait.IsCompletedSuccessfully && (await wait.ConfigureAwait(false)).Held is { } extra)
        {
            await extra.DisposeAsync().ConfigureAwait(false);
        }
    }

    private static PooledLock Of(PooledLock held, LockKey key, int slot)
    {
        held.Slots = (key, slot);
        return held;
    }
}
