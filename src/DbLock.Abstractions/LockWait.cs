namespace DbLock;

/// <summary>How a lock waits.</summary>
public enum LockWait
{
    /// <summary>
    /// In the server's own queue: first come first served, and the server breaks deadlocks. On PostgreSQL the wait holds a snapshot, which
    /// stops VACUUM from cleaning up behind it and CREATE INDEX CONCURRENTLY from coming to an end.
    /// </summary>
    Queue,

    /// <summary>
    /// In the server's queue for a fifth of a second at a time, without a snapshot between: for waits beside migrations. Who comes later
    /// may be first, the server sees no deadlock (PostgreSQL looks for one after a second), and PostgreSQL logs an error for each fifth of
    /// a second.
    /// </summary>
    Yielding,
}
