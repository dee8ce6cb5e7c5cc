namespace DbLock.Drivers;

/// <summary>What an answer or an error of the server means for an acquire.</summary>
public enum LockOutcome
{
    /// <summary>It is not known what happened, so that the server must be asked.</summary>
    Unknown,

    /// <summary>The lock is held.</summary>
    Acquired,

    /// <summary>The lock is held elsewhere, and the time for waiting is over.</summary>
    NotAcquired,

    /// <summary>The server ended the wait to break a deadlock. Not acquired.</summary>
    Deadlock,

    /// <summary>
    /// The server has refused the acquire, for example because a right is missing. The lock is not acquired; the server's own error says
    /// why.
    /// </summary>
    Refused,

    /// <summary>The transaction had failed before, so that the server accepts nothing but its rollback. The lock is not acquired.</summary>
    TransactionAborted,

    /// <summary>The wait was cancelled, perhaps in the instant of the grant, so that the server must be asked.</summary>
    Cancelled,

    /// <summary>The session has ended, with all its locks.</summary>
    ConnectionLost,

    /// <summary>The transaction is the one that was granted the lock before (<see cref="LockRequest.HeldIn"/>). Nothing was done.</summary>
    AlreadyHeld,
}
