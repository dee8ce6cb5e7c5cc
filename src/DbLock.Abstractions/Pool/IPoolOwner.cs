namespace DbLock;

/// <summary>What a pool's parts ask of the pool.</summary>
internal interface IPoolOwner
{
    /// <summary>Lets go of a lock.</summary>
    /// <param name="hold">What is held.</param>
    /// <param name="orThrow">Whether to wait until the server has answered, and to throw if the lock was lost.</param>
    ValueTask<bool> Release(PoolHold hold, bool orThrow);

    /// <summary>Gives up the carrier, with its locks, if the server has not answered for too long.</summary>
    void CheckTrust();

    /// <summary>Lets go of a lock that nobody references any more. A finalizer calls it, so it neither throws nor waits.</summary>
    void Abandon(PoolHold hold);

    /// <summary>Gets or sets whether it lives for as long as this process, although it is disposed.</summary>
    bool IsKept { get; set; }

    /// <summary>Acts on a change of the queue: it speaks to the server, begins or ends listening, and sets the timer.</summary>
    void Follow();
}
