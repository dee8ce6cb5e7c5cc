namespace DbLock;

/// <summary>One hold of a lock.</summary>
/// <param name="Session">
/// The session that holds it; null when a prepared transaction does or it is a lease, or when the session ended while the server was asked.
/// </param>
/// <param name="Shared">Whether it is held shared.</param>
/// <param name="PreparedTransaction">The name of the prepared transaction that holds it; null when a session does.</param>
public sealed record LockHolder(LockSession? Session, bool Shared, string? PreparedTransaction)
{
    /// <summary>
    /// Gets how long it has been held, to the second and never too long; null when it is not told. The holder itself tells it, on a
    /// connection of the lock's own (<see cref="LockOptions.ShowName"/>), and is believed only where it names this lock.
    /// </summary>
    public TimeSpan? HeldFor { get; init; }

    /// <summary>Gets the lease, if it is one (<see cref="LockScope.Lease"/>); null for a lock of a session.</summary>
    public LockLease? Lease { get; init; }

    /// <summary>Returns it in words.</summary>
    public override string ToString() => this switch
    {
        { Lease: { } lease } => lease.ToString(),
        { PreparedTransaction: { } name } => $"the prepared transaction '{name}' (end it with COMMIT PREPARED or ROLLBACK PREPARED)",
        { Session: null } => "a session that has ended since",
        { Session: var session, HeldFor: { } time } => $"{session} for {time.InWords()}",
        { Session: { IsPartial: true } session } => $"{session}, {session.Hidden}",

        // The server does not know since when a lock is held. But an idle session took it before it became idle, unless it only became idle
        // again after it had asked whether it holds the lock.
        { Session: { IsWatched: false, IsIdle: true, StateAge: { } age, State: { } state } session } =>
            $"{session} for at least {age.InWords()}, {state}",
        { Session: var session } => session + session.Doing(),
    };
}
