namespace DbLock;

/// <summary>The states of a <see cref="Lock"/>.</summary>
internal enum LockState
{
    /// <summary>The lock is not held by this object.</summary>
    Free,

    /// <summary>The lock is held, as far as is known.</summary>
    Held,

    /// <summary>
    /// The lock is held, and the caller has reported an error (<see cref="Lock.HandleError(Exception)"/>): a release throws nothing, so
    /// that it does not hide that error.
    /// </summary>
    HeldAfterError,

    /// <summary>The lock was disposed.</summary>
    Disposed,
}
