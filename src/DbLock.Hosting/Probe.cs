using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>Takes a lock and lets go of it, to see whether that works.</summary>
internal static class Probe
{
    // One key for all instances: that another one holds it just now was an answer of the server's, too.
    private static readonly LockKey Key = "DbLock.Probe";

    /// <summary>Takes a lock and lets go of it.</summary>
    /// <returns>How long that took.</returns>
    public static async ValueTask<TimeSpan> Try(ILockSource source, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var held = await source.TryAcquireLockAsync(Key, cancellationToken: cancellationToken).ConfigureAwait(false);
        if (held is not null)
        {
            await using var _ = held.ConfigureAwait(false);
            await held.ReleaseAsync().ConfigureAwait(false);
        }

        return Stopwatch.GetElapsedTime(start);
    }

    /// <summary>
    /// Says whether an error may pass by itself: the server cannot be reached, or has no room at present. What a limit has cancelled is the
    /// cause of another error.
    /// </summary>
    public static bool MayPass(Exception error) =>
        error is TimeoutException or DbException { IsTransient: true }
        || (error.InnerException is { } inner && (inner is OperationCanceledException || MayPass(inner)));
}
