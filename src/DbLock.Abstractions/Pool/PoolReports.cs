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

    public static NotSupportedException NoShared(string engine) => new(
        $"{engine} has no shared locks: leave shared out, or lock on another engine.");

    public static NotSupportedException OneNumber(string asked, string other) => new(
        $"The keys '{asked}' and '{other}' have one number, by which a LockPool tells keys apart until it knows that its server locks "
        + "numbers; where the server locks names they are two locks. Make the keys with another scheme, or use a pool for each.");

    public static ArgumentException SharedHasNoToken(LockKey key, string parameter) => new(
        "A shared lock of a pool has no fencing token: tasks share it in memory, so that its token would not grow with each grant. "
        + $"Acquire '{key}' alone, use a pool without LockPoolOptions.Fencing, or dataSource.AcquireLock, which asks the server each time.",
        parameter);

    public void Released(PoolHold hold, Carrier? carrier)
    {
        Tell(hold, carrier, Telemetry.Released);
        Log.Released(_logger, hold.Key);
    }

    public void Abandoned(PoolHold hold, Carrier? carrier)
    {
        Tell(hold, carrier, Telemetry.Released);
        Log.AbandonedInPool(_logger, hold.Key);
    }

    /// <summary>Reports locks that were lost with their session.</summary>
    public void Lost(List<PoolHold> lost, Carrier? carrier, Exception? error)
    {
        if (lost.Count > 0)
        {
            Log.CarrierLost(_logger, lost.Count, error);
            lost.ForEach(hold => Tell(hold, carrier, Telemetry.Lost));
        }
    }

    /// <summary>Reports locks that were lost from a session which lives.</summary>
    public void Lost(List<PoolHold> lost, Carrier carrier)
    {
        foreach (var hold in lost)
        {
            Log.Lost(_logger, hold.Key, null);
            Tell(hold, carrier, Telemetry.Lost);
        }
    }

    /// <summary>Reports that there is no connection while tasks wait.</summary>
    public void Unconnected(Exception error) => Log.CannotConnect(_logger, error);

    private void Tell(PoolHold hold, Carrier? carrier, string outcome)
    {
        if (Telemetry.HearsHolds)
        {
            var how = options with { Shared = hold.Shared };
            Telemetry.Held(carrier?.Connection.Database, carrier?.Dialect, hold.Key, how, hold.Start, outcome);
        }
    }
}
