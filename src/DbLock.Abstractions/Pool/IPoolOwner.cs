namespace DbLock;

/// <summary>What locks and conversations ask of their pool.</summary>
internal interface IPoolOwner
{
    /// <summary>Lets go of a lock.</summary>
    /// <param name="hold">What is held.</param>
    /// <param name="orThrow">Whether the server's word is waited for, and a loss thrown.</param>
    ValueTask<bool> Release(PoolHold hold, bool orThrow);

    /// <summary>Gives up what has not been confirmed for too long.</summary>
    void CheckTrust();

    /// <summary>Lets go of a lock that nobody has any more. A finalizer calls it: nothing is thrown and nothing waits.</summary>
    void Abandon(PoolHold hold);

    /// <summary>Does what follows from a change of the queue: speaks to the server, listens, and comes back in time.</summary>
    void Follow();
}
