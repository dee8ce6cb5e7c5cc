namespace DbLock;

/// <summary>
/// The server has ended a wait because it closed a circle of waiters. The lock was not acquired; locks that were held before are still
/// held.
/// </summary>
public sealed class LockDeadlockException : LockException
{
    /// <summary>Initializes a new instance without a message.</summary>
    public LockDeadlockException()
    {
    }

    /// <summary>Initializes a new instance with what happened.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    public LockDeadlockException(string message)
        : base(message)
    {
    }

    /// <summary>Initializes a new instance with what happened and its cause.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    /// <param name="innerException">The database's error; null if there is none.</param>
    public LockDeadlockException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
