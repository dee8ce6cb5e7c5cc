namespace DbLock;

/// <summary>A task's wish for a lock of a pool, from the call to the end of the hold. Its result is null when the lock was held elsewhere, or the wait was given up.</summary>
internal sealed class PoolRequest(LockKey key, bool shared, bool isTry, PoolRequest? outer) : TaskCompletionSource<PooledLock?>(TaskCreationOptions.RunContinuationsAsynchronously)
{
    private PoolRequest? _outer = outer;

    public LockKey Key => key;

    public bool Shared => shared;

    /// <summary>Gets whether it is asked for once only.</summary>
    public bool IsTry => isTry;

    public StateOf State { get; set; }

    /// <summary>Gets or sets whether the wait was given up: the next answer is the last.</summary>
    public bool IsAbandoned { get; set; }

    /// <summary>Gets or sets whether a release was heard of while the server was being asked, perhaps before it came.</summary>
    public bool IsRung { get; set; }

    /// <summary>Gets or sets whether the server is being asked at this moment, or has not answered yet.</summary>
    public bool IsSent { get; set; }

    /// <summary>Gets or sets whether it had to let others go first, because the server has not room for all.</summary>
    public bool IsLate { get; set; }

    /// <summary>Gets or sets how long it waits to be asked again, in milliseconds; 0 until the server has said that another process has it.</summary>
    public int Interval { get; set; }

    /// <summary>Gets whether the server has said that another process has it.</summary>
    public bool WasElsewhere => Interval > 0;

    /// <summary>Gets or sets how often in a row the server answered with an error, or not at all.</summary>
    public int Failures { get; set; }

    /// <summary>Gets when it began, in milliseconds of <see cref="Environment.TickCount64"/>.</summary>
    public long Start { get; } = Environment.TickCount64;

    /// <summary>Gets or sets when it is asked for again, in milliseconds of <see cref="Environment.TickCount64"/>.</summary>
    public long Due { get; set; }

    /// <summary>Gets or sets its place in each of its keys' queues.</summary>
    public PoolPlace[] Places { get; set; } = [];

    public IEnumerable<PoolEntry> Entries => Places.Select(place => place.Entry);

    /// <summary>Gets those of its keys that the server is asked for; the others it shares with tasks of this process.</summary>
    public IEnumerable<PoolEntry> AskedFor => Entries.Where(entry => entry.Server == PoolEntry.OnServer.Asked);

    /// <summary>Gets the nearest request around this one, in the flow of the program, that is still held: what its task holds while it waits for this.</summary>
    public PoolRequest? Outer => _outer = NearestHeld(_outer);

    /// <summary>Returns a request, or the nearest around it, that is held.</summary>
    public static PoolRequest? NearestHeld(PoolRequest? request)
    {
        while (request is not null and not { State: StateOf.Held })
        {
            request = request._outer;
        }

        return request;
    }

    /// <summary>The states of a request.</summary>
    public enum StateOf
    {
        /// <summary>It waits for those before it, or for what tasks of this process hold.</summary>
        Queued,

        /// <summary>The server is being asked, or is the next time.</summary>
        Asked,

        /// <summary>Another process has it.</summary>
        Elsewhere,

        /// <summary>It is held.</summary>
        Held,

        /// <summary>It was let go, lost or given up.</summary>
        Over,
    }
}
