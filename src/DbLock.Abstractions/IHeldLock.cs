namespace DbLock;

/// <summary>A lock that is held, until it is let go or disposed, whatever holds it.</summary>
/// <remarks>
/// <b>Threads.</b> <see cref="Lost"/> and <see cref="IsHeld"/> may be read from anywhere. Whether two calls may be made at once, each kind
/// of lock says itself.
/// </remarks>
public interface IHeldLock : IAsyncDisposable
{
    /// <summary>Gets the key.</summary>
    LockKey Key { get; }

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    bool IsHeld { get; }

    /// <summary>
    /// Gets a token that fires when it is noticed that the server no longer holds the lock for us. A release does not fire it.
    /// </summary>
    CancellationToken Lost { get; }

    /// <summary>
    /// Gets the fencing token, which is larger than those of all holds of the lock before it; null where the lock was not asked for with
    /// one.
    /// </summary>
    long? FencingToken { get; }

    /// <summary>Gets which slot is held, from 1 (<see cref="LockKey.Slots"/>); null for a key without slots.</summary>
    int? Slot => null;

    /// <summary>
    /// Throws when it has been noticed that this hold is lost; asks nobody. Call it before each step that must not be done twice.
    /// </summary>
    /// <exception cref="LockLostException">The server no longer holds the lock for us.</exception>
    void ThrowIfLost();

    /// <summary>Lets go of the lock, and returns when the server has answered that it was held to the end.</summary>
    /// <returns>True when the lock was let go; false when that had been done before.</returns>
    /// <exception cref="LockLostException">The server no longer held the lock: the work under it may not have been alone.</exception>
    ValueTask<bool> ReleaseAsync();
}
