using System.Globalization;

namespace DbLock;

/// <summary>A lock was not acquired, and the caller could not go on without it. The body did not run.</summary>
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

    /// <summary>Returns the exception for a timeout.</summary>
    /// <param name="timeout">How long the caller waited.</param>
    /// <param name="key">The key.</param>
    /// <param name="meaning">What the timeout means for the caller; it stands after a comma.</param>
    /// <param name="holder">The holder in words; null when <paramref name="holders"/> has it, and when it is not known.</param>
    /// <param name="holders">The server's answer; null when there is none.</param>
    /// <param name="orElse">What the caller can call instead.</param>
    internal static LockNotAcquiredException Within(
        TimeSpan timeout, LockKey key, string meaning, string? holder, LockHolders? holders, string orElse) => new(
        string.Create(CultureInfo.InvariantCulture, $"Lock '{key}' was not acquired within {timeout.TotalSeconds:0.###} s{meaning}: ")
        + $"{holder ?? holders?.ToString() ?? "it is held elsewhere"}. Wait longer, or use {orElse}.")
        {
            Holders = holders,
        };

    /// <summary>Gets who held the lock when the wait was over; null where the server does not tell, or could not be asked.</summary>
    public LockHolders? Holders { get; init; }
}
