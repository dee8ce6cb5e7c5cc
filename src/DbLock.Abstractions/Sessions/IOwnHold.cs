namespace DbLock;

/// <summary>What a <see cref="HeldLock"/> is held by: a session on a connection of its own, or a lease.</summary>
internal interface IOwnHold
{
    LockKey Key { get; }

    bool IsHeld { get; }

    CancellationToken Lost { get; }

    long? FencingToken { get; }

    int? Slot { get; }

    void ThrowIfLost();

    ValueTask<bool> Release(bool async);

    ValueTask Dispose(bool async);

    /// <summary>Lets go of it from a finalizer, without waiting.</summary>
    void Abandon();
}
