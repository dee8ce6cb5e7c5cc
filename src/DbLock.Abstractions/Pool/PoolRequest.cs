namespace DbLock;

/// <summary>
/// A task's wish for a lock of a pool. It ends with the lock, with null when the lock is held elsewhere, or with an error.
/// </summary>
internal sealed class PoolRequest(LockKey key, bool shared, bool isTry, PoolFlow flow) : PoolPromise<PooledLock?>
{
    public LockKey Key => key;

    public bool Shared => shared;

    /// <summary>Gets whether it was made without a timeout to wait for: the first answer is the last.</summary>
    public bool IsTry => isTry;

    public PoolFlow Flow => flow;

    /// <summary>Gets or sets its place among all requests, in their order.</summary>
    public long Number { get; set; }

    public StateOf State { get; set; }

    /// <summary>Gets or sets its place in the line of each of its keys.</summary>
    public PoolPlace[] Places { get; set; } = [];

    /// <summary>Returns how many of its keys the server is asked for.</summary>
    public int CountAsked()
    {
        var count = 0;
        foreach (var place in Places)
        {
            count += place.Entry.Server == PoolEntry.OnServer.Asked ? 1 : 0;
        }

        return count;
    }

    /// <summary>Returns those of its keys that the server is asked for; the others it shares with tasks of this process.</summary>
    public PoolEntry[] AskedFor() =>
        [.. Places.Select(place => place.Entry).Where(entry => entry.Server == PoolEntry.OnServer.Asked)];

    /// <summary>Gets whether it asks for several keys at once.</summary>
    public bool IsSet => Places.Length > 1;

    /// <summary>
    /// Gets or sets the key of a set that cannot be had now: the set waits for it in its line, and steps out of the lines of its other
    /// keys. Null when it stands in all.
    /// </summary>
    public PoolEntry? Lacks { get; set; }

    /// <summary>Gets or sets when it is given up; <see cref="long.MaxValue"/> for never.</summary>
    public long Deadline { get; set; } = long.MaxValue;

    /// <summary>Gets or sets when it is looked at again; <see cref="long.MaxValue"/> for not before something happens.</summary>
    public long Due { get; set; } = long.MaxValue;

    /// <summary>Gets or sets whether its time is over: the next answer is the last.</summary>
    public bool IsLast { get; set; }

    /// <summary>Gets or sets whether its caller has cancelled it.</summary>
    public bool IsCancelled { get; set; }

    /// <summary>Gets or sets whether a release was heard of while the server was being asked, perhaps before the question came.</summary>
    public bool IsRung { get; set; }

    /// <summary>Gets or sets whether it is asked for because a release was heard of.</summary>
    public bool AnswersBell { get; set; }

    /// <summary>Gets or sets whether it had to let others go first, because the server has not room for all.</summary>
    public bool IsLate { get; set; }

    /// <summary>Gets or sets how long it waits to be asked again; 0 until the server has said that another process has it.</summary>
    public long Interval { get; set; }

    /// <summary>Gets whether the server has said that another process has it.</summary>
    public bool WasElsewhere => Interval > 0;

    /// <summary>Gets or sets whether it waited already when a session ended: it goes on waiting while there is no server.</summary>
    public bool Persists { get; set; }

    /// <summary>Gets or sets how often in a row the server answered with an error, or not at all.</summary>
    public int Failures { get; set; }

    /// <summary>Gets or sets whether it is known that its own task may hold what it waits for.</summary>
    public bool IsSuspected { get; set; }

    /// <summary>Gets or sets when it began.</summary>
    public long Start { get; set; }

    /// <summary>Says whether it is in the line of a key now.</summary>
    public bool StandsIn(PoolEntry entry) => Lacks is null || Lacks == entry;

    /// <summary>The states of a request.</summary>
    public enum StateOf : byte
    {
        /// <summary>It waits for those before it, or for what tasks of this process hold.</summary>
        Queued,

        /// <summary>The server is asked for it in the next round.</summary>
        Asking,

        /// <summary>The server is being asked for it.</summary>
        Asked,

        /// <summary>Another process has it, or its turn.</summary>
        Elsewhere,

        /// <summary>It was granted or given up.</summary>
        Over,
    }
}
