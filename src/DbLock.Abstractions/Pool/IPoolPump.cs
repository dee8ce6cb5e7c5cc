namespace DbLock;

/// <summary>
/// What speaks to the server for a pool: over a session that carries its locks, or, for leases, over connections that are borrowed.
/// </summary>
internal interface IPoolPump
{
    /// <summary>Gets the database and the dialect, as far as they are known.</summary>
    (string? Database, LockDialect? Dialect) Where { get; }

    /// <summary>Gets the session that carries the locks; null while there is none, and for leases.</summary>
    Carrier? Carrier { get; }

    /// <summary>Gets whether the carrier holds the lock that shows that this pool listens.</summary>
    bool IsMarked { get; }

    /// <summary>Begins to send what is to be sent, unless a round is under way: that one is followed by another.</summary>
    /// <param name="caller">The caller whose own thread may send it and continue with its result; null leaves it to another thread.</param>
    void Wake(PoolPromise? caller = null);

    /// <summary>Asks, over a connection of its own, who holds some locks.</summary>
    Task<IReadOnlyDictionary<LockKey, LockHolders>> AskHolders(IReadOnlyCollection<LockKey> keys, CancellationToken cancellationToken);

    /// <summary>Ends the conversation and lets go of everything. It is called when the queue is closed.</summary>
    /// <param name="limit">Ends the waiting.</param>
    /// <returns>Whether everything that was held was let go.</returns>
    Task<bool> End(CancellationToken limit);
}
