namespace DbLock;

/// <summary>A lock that was not acquired, where the caller could not go on without it: the body did not run.</summary>
public sealed class LockNotAcquiredException : LockException
{
    /// <summary>Initializes a new instance without a message.</summary>
    public LockNotAcquiredException()
    {
    }

    /// <summary>Initializes a new instance with what happened.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    public LockNotAcquiredException(string message)
        : base(message)
    {
    }

    /// <summary>Initializes a new instance with what happened and its cause.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    /// <param name="innerException">The database's error; null if there is none.</param>
    public LockNotAcquiredException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Gets who held the lock when the wait was over; null where the server does not tell, or could not be asked.</summary>
    public LockHolders? Holders { get; init; }
}
