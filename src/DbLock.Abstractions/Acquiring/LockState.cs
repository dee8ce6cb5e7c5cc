namespace DbLock;

/// <summary>Where a <see cref="Lock"/> stands.</summary>
internal enum LockState
{
    /// <summary>It is not held by this lock.</summary>
    Free,

    /// <summary>It is held, or was when it was last heard of.</summary>
    Held,

    /// <summary>As <see cref="Held"/>; the caller has told of an error, over which a release throws nothing.</summary>
    HeldAfterError,

    /// <summary>It is of no more use.</summary>
    Disposed,
}
