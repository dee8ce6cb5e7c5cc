namespace DbLock.Drivers;

/// <summary>What an answer or an error of the server means for an acquire.</summary>
public enum LockOutcome
{
    /// <summary>Nothing is known: the server must be asked.</summary>
    Unknown,

    /// <summary>The lock is held.</summary>
    Acquired,

    /// <summary>The lock is held elsewhere, and the time for waiting is over.</summary>
    NotAcquired,

    /// <summary>The server ended the wait to break a deadlock. Not acquired.</summary>
    Deadlock,

    /// <summary>The server refused, for example for want of a right. Not acquired; the server's own error says why.</summary>
    Refused,

    /// <summary>The transaction had failed before, and the server takes nothing but its rollback. Not acquired.</summary>
    TransactionAborted,

    /// <summary>The wait was cancelled, perhaps in the instant of the grant: the server must be asked.</summary>
    Cancelled,

    /// <summary>The session is gone, and every lock of it.</summary>
    ConnectionLost,

    /// <summary>
    /// The transaction is the one in which the lock was granted before (<see cref="LockRequest.HeldIn"/>), and nothing was done.
    /// </summary>
    AlreadyHeld,
}
