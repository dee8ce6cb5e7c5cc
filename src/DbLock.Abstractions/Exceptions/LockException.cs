namespace DbLock;

/// <summary>The failure of a lock. The message says what happened, what it means and what to do about it.</summary>
public class LockException : Exception
{
    /// <summary>Initializes a new instance without a message.</summary>
    public LockException()
    {
    }

    /// <summary>Initializes a new instance with what happened.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    public LockException(string message)
        : base(message)
    {
    }

    /// <summary>Initializes a new instance with what happened and its cause.</summary>
    /// <param name="message">What happened, what it means and what to do.</param>
    /// <param name="innerException">The database's error; null if there is none.</param>
    public LockException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
