namespace DbLock;

/// <summary>The server no longer held a lock for its holder when it should have: the work under the lock may not have been alone.</summary>
public sealed class LockLostException : LockException
{
    /// <summary>Initializes a new instance without a message.</summary>
    public LockLostException()
    {
    }

    /// <summary>Initializes a new instance with what happened.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    public LockLostException(string message)
        : base(message)
    {
    }

    /// <summary>Initializes a new instance with what happened and its cause.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    /// <param name="innerException">The database's error; null if there is none.</param>
    public LockLostException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
