using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>A lease that was acquired from a data source.</summary>
internal sealed class OwnLease(LeaseSource source, LeaseHold hold) : IOwnHold
{
    public LockKey Key => hold.Key;

    public bool IsHeld => hold.IsHeld(Stopwatch.GetTimestamp());

    public CancellationToken Lost => hold.Lost;

    public long? FencingToken => hold.Token;

    public int? Slot => hold.Slot;

    /// <summary>Acquires a lease from a data source.</summary>
    /// <returns>Null when it was held elsewhere for the whole timeout.</returns>
    public static async ValueTask<IOwnHold?> TryAcquire(
        DbDataSource dataSource, LockKey key, TimeSpan timeout, LockInterface? lockInterface, LockOptions options, bool orThrow, bool async,
        CancellationToken cancellationToken)
    {
        var source = LeaseSource.Of(dataSource, lockInterface, options);
        var hold = Telemetry.HearsAcquires
            ? await Telemetry.Tell(
                () => source.Acquire(key, options, timeout, async, cancellationToken), static hold => hold is not null,
                () => source.Where, key, options).ConfigureAwait(false)
            : await source.Acquire(key, options, timeout, async, cancellationToken).ConfigureAwait(false);
        if (hold is null)
        {
            Log.NotAcquired(QuietLogger.Of(options.Logger), key);
            return orThrow ? throw await source.NotAcquired(key, options, timeout, async).ConfigureAwait(false) : null;
        }

        return new OwnLease(source, hold);
    }

    public void ThrowIfLost()
    {
        if (!IsHeld && hold.IsLost)
        {
            throw LeaseRefusals.Lost(hold.Key, null);
        }
    }

    public ValueTask<bool> Release(bool async) => source.Release(hold, async);

    public async ValueTask Dispose(bool async)
    {
        try
        {
            await source.Release(hold, async).ConfigureAwait(false);
        }
        catch (LockLostException)
        {
            // A using statement may be ending because of the caller's own exception. The loss was logged, and Lost has fired.
        }
    }

    public void Abandon() => source.Abandon(hold);
}
