namespace DbLock;

/// <summary>
/// A task's request for a lock of a pool. Its result is the lock, or null when the lock is held elsewhere, or an exception.
/// </summary>
internal sealed class PoolRequest(LockKey key, bool shared, bool isTry, PoolFlow flow) : PoolPromise<PooledLock?>
{
    public LockKey Key => key;

    public bool Shared => shared;

    /// <summary>Gets whether it was made without a timeout, so that the first answer ends it.</summary>
    public bool IsTry => isTry;

    public PoolFlow Flow => flow;

    /// <summary>Gets or sets its number in the order of all requests.</summary>
    public long Number { get; set; }

    public StateOf State { get; set; }

    /// <summary>Gets or sets its place in the line of each of its keys.</summary>
    public Place[] Places { get; set; } = [];

    /// <summary>Returns for how many of its keys the server is asked.</summary>
    public int CountAsked()
    {
        var count = 0;
        foreach (var place in Places)
        {
            count += place.Entry.Server == PoolEntry.OnServer.Asked ? 1 : 0;
        }

        return count;
    }

    /// <summary>Returns the keys for which the server is asked. The others it shares with tasks of this process.</summary>
    public PoolEntry[] AskedFor() =>
        [.. Places.Select(place => place.Entry).Where(entry => entry.Server == PoolEntry.OnServer.Asked)];

    /// <summary>Gets whether it asks for several keys at once.</summary>
    public bool IsSet => Places.Length > 1;

    /// <summary>
    /// Gets or sets the key for which a set waits because it cannot be had now: the set stands in the line of this key alone. Null when it
    /// stands in the lines of all its keys.
    /// </summary>
    public PoolEntry? Lacks { get; set; }

    /// <summary>Gets or sets when it times out; <see cref="long.MaxValue"/> for never.</summary>
    public long Deadline { get; set; } = long.MaxValue;

    /// <summary>Gets or sets when it is looked at again; <see cref="long.MaxValue"/> when only an event makes it looked at.</summary>
    public long Due { get; set; } = long.MaxValue;

    /// <summary>Gets or sets whether its time is over, so that the next answer ends it.</summary>
    public bool IsLast { get; set; }

    /// <summary>Gets or sets whether its caller has cancelled it.</summary>
    public bool IsCancelled { get; set; }

    /// <summary>
    /// Gets or sets whether a release was heard of while the server was being asked. The release may have come after the server looked.
    /// </summary>
    public bool IsRung { get; set; }

    /// <summary>Gets or sets whether the server is asked because a release was heard of.</summary>
    public bool AnswersBell { get; set; }

    /// <summary>Gets or sets whether it was put off to a later round, because the server has no room for all requests.</summary>
    public bool IsLate { get; set; }

    /// <summary>Gets or sets the interval at which it is polled for; 0 until the server has said that another process has a key.</summary>
    public long Interval { get; set; }

    /// <summary>Gets whether the server has said that another process has it.</summary>
    public bool WasElsewhere => Interval > 0;

    /// <summary>Gets or sets whether it already waited when a session ended, so that it goes on waiting while there is no server.</summary>
    public bool Persists { get; set; }

    /// <summary>Gets or sets the id under which a lease is asked for; null when it is not being asked for.</summary>
    public string? Owner { get; set; }

    /// <summary>Gets or sets how often in a row the server answered with an error, or not at all.</summary>
    public int Failures { get; set; }

    /// <summary>Gets or sets whether it was found, and logged, that it waits for a lock which was acquired around it.</summary>
    public bool IsSuspected { get; set; }

    /// <summary>Gets or sets when it began.</summary>
    public long Start { get; set; }

    /// <summary>Its place in the line of one of its keys.</summary>
    public sealed class Place(PoolRequest request, PoolEntry entry)
    {
        public PoolRequest Request => request;

        public PoolEntry Entry => entry;

        public Place? Previous { get; set; }

        public Place? Next { get; set; }

        /// <summary>Gets whether the request stands there now: a set may wait in the line of another of its keys alone.</summary>
        public bool Stands => request.Lacks is null || request.Lacks == entry;
    }

    /// <summary>The states of a request.</summary>
    public enum StateOf : byte
    {
        /// <summary>It waits for requests before it, or for a lock that tasks of this process hold.</summary>
        Queued,

        /// <summary>The server will be asked for it in the next round.</summary>
        Asking,

        /// <summary>The server is being asked for it.</summary>
        Asked,

        /// <summary>Another process has a key, or has its turn at it.</summary>
        Elsewhere,

        /// <summary>It was granted, or has ended without a grant.</summary>
        Over,
    }
}
