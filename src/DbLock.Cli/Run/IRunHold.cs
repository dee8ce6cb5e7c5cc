namespace DbLock.Cli;

/// <summary>What <c>dblock run</c> holds while its command runs: a lock of its session, or a lease.</summary>
internal interface IRunHold
{
    /// <summary>Gets the number of the server's session that holds the lock; null for a lease, which none holds.</summary>
    long? SessionId { get; }

    /// <summary>Gets the fencing token; null where the server has none to give.</summary>
    long? FencingToken { get; }

    /// <summary>Gets which slot is held; null for a key without slots.</summary>
    int? Slot { get; }

    /// <summary>Makes sure that it is held: before something is started on that.</summary>
    /// <returns>Null when it is held, else why it is lost.</returns>
    Task<string?> ConfirmAsync();

    /// <summary>Watches until it is told to stop, or until the lock is lost.</summary>
    /// <returns>Null when it was told to stop, else why the lock is lost.</returns>
    Task<string?> LossAsync(CancellationToken stop);

    Task ReleaseAsync();
}
