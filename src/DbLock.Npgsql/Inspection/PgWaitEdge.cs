namespace DbLock;

/// <summary>A wait of one session for another.</summary>
/// <param name="Waiting">The lock that is waited for.</param>
/// <param name="Blocking">The lock that is in its way.</param>
/// <param name="IsHard">Whether the other session holds its lock; false when it waits itself and is only ahead in the queue.</param>
public sealed record PgWaitEdge(PgLock Waiting, PgLock Blocking, bool IsHard);
