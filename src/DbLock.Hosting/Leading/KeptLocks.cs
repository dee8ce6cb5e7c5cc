using System.Collections.Concurrent;

namespace DbLock;

/// <summary>
/// What a service still runs under that did not stop in time. Nobody lets go of it while this process lives, although the host and its
/// services are disposed.
/// </summary>
internal static class KeptLocks
{
    private static readonly ConcurrentQueue<IHeldLock> Kept = [];

    public static void Keep(IHeldLock held)
    {
        Kept.Enqueue(held);
        (held as PooledLock)?.KeepPool();
    }
}
