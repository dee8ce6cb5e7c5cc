using System.Globalization;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>Reports what happens to a pool's locks: to the log, to telemetry, and in the exceptions of its callers.</summary>
internal sealed class PoolReports(LockOptions options)
{
    private readonly ILogger _logger = QuietLogger.Of(options.Logger);

    public static LockException NoRoom(PoolRequest request, int held, Exception? error) => new(
        string.Create(
            CultureInfo.InvariantCulture,
            $"The server has no room for lock '{request.Key}' ({request.Places.Length} more): three quarters of its lock table are taken, ")
        + string.Create(CultureInfo.InvariantCulture, $"{held} locks by this pool, and the rest is left to other work. ")
        + "Hold fewer locks at once, or raise max_locks_per_transaction.",
        error);

    private static NotSupportedException NoSharedLeases(LockKey key) => new(
        $"A table of leases has no shared locks: acquire '{key}' alone, or use a pool with LockPoolOptions.Scope left at Session.");

    public static ArgumentException NoTransactionScope(string parameter) => new(
        "A pool's locks end with its session, or are leases: set LockPoolOptions.Scope to Session or Lease, or make a Lock on the "
        + "connection of the transaction.",
        parameter);

    public static NotSupportedException NoShared(string engine) => new(
        $"{engine} has no shared locks: leave shared out, or lock on another engine.");

    public static NotSupportedException OneNumber(string asked, string other) => new(
        $"The keys '{asked}' and '{other}' have one number, by which a LockPool tells keys apart until it knows that its server locks "
        + "numbers; where the server locks names they are two locks. Make the keys with another scheme, or use a pool for each.");

    private static ArgumentException SharedHasNoToken(LockKey key, string parameter) => new(
        "A shared lock of a pool has no fencing token: tasks share it in memory, so that its token would not grow with each grant. "
        + $"Acquire '{key}' alone, use a pool without LockPoolOptions.Fencing, or dataSource.AcquireLock, which asks the server each time.",
        parameter);

    /// <summary>Throws when a shared lock, or a slot, cannot be had.</summary>
    public void CheckRequest(LockKey key, bool shared, string parameter)
    {
        if (shared && options.Fencing)
        {
            throw SharedHasNoToken(key, parameter);
        }

        if (shared && options.Scope == LockScope.Lease)
        {
            throw NoSharedLeases(key);
        }

        if (key.SlotCount > 0 && options.Scope == LockScope.Lease)
        {
            throw new NotSupportedException(
                $"A pool of leases has no slots, and '{key}' asks for one: acquire it from the data source (dataSource.AcquireLockAsync), "
                + "or in a pool of session scope.");
        }
    }

    public void Released(PoolHold hold, (string? Database, LockDialect? Dialect) where)
    {
        Tell(hold, where, Telemetry.Released);
        Log.Released(_logger, hold.Key);
    }

    public void Abandoned(PoolHold hold, (string? Database, LockDialect? Dialect) where)
    {
        Tell(hold, where, Telemetry.Released);
        Log.AbandonedInPool(_logger, hold.Key);
    }

    /// <summary>Reports locks that were lost with their session.</summary>
    public void Lost(List<PoolHold> lost, (string? Database, LockDialect? Dialect) where, Exception? error)
    {
        if (lost.Count > 0)
        {
            Log.CarrierLost(_logger, lost.Count, error);
            lost.ForEach(hold => Tell(hold, where, Telemetry.Lost));
        }
    }

    /// <summary>Reports locks that were lost one by one.</summary>
    public void Lost(List<PoolHold> lost, (string? Database, LockDialect? Dialect) where)
    {
        foreach (var hold in lost)
        {
            Log.Lost(_logger, hold.Key, null);
            Tell(hold, where, Telemetry.Lost);
        }
    }

    /// <summary>Reports that there is no connection while tasks wait.</summary>
    public void Unconnected(Exception error) => Log.CannotConnect(_logger, error);

    private void Tell(PoolHold hold, (string? Database, LockDialect? Dialect) where, string outcome)
    {
        if (Telemetry.HearsHolds)
        {
            var how = options with { Shared = hold.Shared };
            Telemetry.Held(where.Database, where.Dialect, hold.Key, how, hold.Start, outcome);
        }
    }
}
