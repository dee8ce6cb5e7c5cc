namespace DbLock;

/// <summary>What is known of an application's locks without asking the server.</summary>
/// <param name="Held">How many locks are held: of a pool, or leases. Those with a connection each are not counted.</param>
/// <param name="Answered">How old the last answer is on the connection that carries a pool's locks; null when there is none.</param>
/// <param name="Late">How many leases were not renewed in time.</param>
internal readonly record struct LocksState(int Held, TimeSpan? Answered, int Late);
