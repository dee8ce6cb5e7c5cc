using System.Globalization;

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

    /// <summary>Returns the exception for a timeout that is no answer to the caller.</summary>
    /// <param name="timeout">How long it was waited for.</param>
    /// <param name="key">The key.</param>
    /// <param name="meaning">What else that means, after a comma.</param>
    /// <param name="holder">Who holds it, in words; null when <paramref name="holders"/> says it, or nobody does.</param>
    /// <param name="holders">What the server says; null when it does not.</param>
    /// <param name="orElse">What to call instead.</param>
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
