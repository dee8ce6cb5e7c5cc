namespace DbLock.Torture;

/// <summary>What is promised of a kind of lock, in milliseconds, with something added for a machine that does much else.</summary>
internal sealed record Rules
{
    /// <summary>How long the leases of the campaign are.</summary>
    public const int Lease = 8_000;

    /// <summary>Gets what holds for locks of sessions.</summary>
    public static Rules OfSessions { get; } = new();

    /// <summary>Gets what holds for leases: they outlive sessions and servers, end by themselves, and are trusted for less than the server keeps them.</summary>
    public static Rules OfLeases { get; } = new() { IsLease = true, SilentIsTold = 5_000, SessionEnds = Lease + 3_000, SilenceLoses = 3_000, PausedIsTold = Lease };

    public bool IsLease { get; private init; }

    /// <summary>Gets how long after the end of a session a lock on a connection of its own may go on believing (promised: a second).</summary>
    public long KilledIsTold { get; private init; } = 5_000;

    /// <summary>Gets the same on a network that has gone silent (promised: 15 seconds), and for who must use the connection to notice.</summary>
    public long SilentIsTold { get; private init; } = 25_000;

    /// <summary>Gets how long a session, or a lease, may outlive its client.</summary>
    public long SessionEnds { get; private init; } = 5_000;

    /// <summary>Gets how long a network must have been silent, or a process paused, to explain a loss: a command may have run into its own timeout, a renewal not have come.</summary>
    public long SilenceLoses { get; private init; } = 9_000;

    /// <summary>Gets how long a process must have been paused at least to have to know that its lock is not trusted any more (promised: 15 seconds, and less than the lease).</summary>
    public long PausedIsTold { get; private init; } = 16_000;
}
