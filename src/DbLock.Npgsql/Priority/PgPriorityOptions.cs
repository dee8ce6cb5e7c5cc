namespace DbLock;

/// <summary>What is done for a session that waits. Every default is what <c>new PgPriorityOptions()</c> has.</summary>
public sealed record PgPriorityOptions
{
    internal static readonly PgPriorityOptions Default = new();

    /// <summary>
    /// Gets what is done to those who hold what the session waits for: <see cref="PgSignal.Terminate"/> by default, since who is idle does
    /// not notice a cancel.
    /// </summary>
    public PgSignal Signal { get; init; } = PgSignal.Terminate;

    /// <summary>Gets which locks in the way are cleared; null for all. It looks at the holder's lock and session.</summary>
    public PgLockFilter? Filter { get; init; }

    /// <summary>
    /// Gets how long it is from one look to the next: a second by default, from ten milliseconds to a day. The first look is at once.
    /// </summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Gets whether those are cleared too who block the blockers, and who block those who are ahead in the queue.</summary>
    public bool BlockersOfBlockers { get; init; }

    /// <summary>Gets whom to spare, how long the grace is, where to log, and so on.</summary>
    public PgClearOptions Clear { get; init; } = PgClearOptions.Default;
}
