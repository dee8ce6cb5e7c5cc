namespace DbLock;

/// <summary>What a pool knows of one key: its state on the server, and how many tasks hold it.</summary>
internal abstract class PoolEntry(LockKey key)
{
    private PoolTurn _turn = new();

    public (long Number, bool IsPair) Identity => (key.Number, key.IsPair);

    /// <summary>Gets the name of the key for which it was made.</summary>
    public string Name => key.Name;

    /// <summary>Gets the state of the key on the server.</summary>
    public OnServer Server { get; private set; }

    /// <summary>Gets since when the key has been in that state, or since when its present holder has it.</summary>
    public long Since { get; private set; }

    /// <summary>Gets or sets when the server last refused the key because another process has it; -1 for never.</summary>
    public long RefusedAt { get; set; } = -1;

    /// <summary>Gets or sets whether the key is held shared on the server, or is to be.</summary>
    public bool Shared { get; set; }

    /// <summary>Gets or sets how many tasks hold the key.</summary>
    public int Holders { get; set; }

    /// <summary>Gets or sets the fencing token of the last grant; 0 for none.</summary>
    public long Token { get; set; }

    /// <summary>Gets or sets the lease that was granted last; null where a session carries the locks.</summary>
    public LeaseHold? Lease { get; set; }

    /// <summary>Gets or sets the hold whose release the server is being told of.</summary>
    public PoolHold? ReleasedBy { get; set; }

    public ref PoolTurn Turn => ref _turn;

    /// <summary>
    /// Gets or sets how many of the waiting requests are to be answered as soon as it is known that they cannot have the key.
    /// </summary>
    public int Last { get; set; }

    /// <summary>Gets or sets whether the key must be looked at before the queue's lock is left.</summary>
    public bool IsTouched { get; set; }

    public void Become(OnServer server, long now) => (Server, Since) = (server, now);

    public CarriedLock ToCarry(int group = 0, int heeds = 0) => new(key.Number, key.IsPair, Shared, group, heeds) { Key = key };

    /// <summary>The states of a key on the server.</summary>
    public enum OnServer : byte
    {
        /// <summary>The pool does not hold the key.</summary>
        None,

        /// <summary>The server is being asked for the key, for the first request in its line.</summary>
        Asked,

        /// <summary>The pool holds the key.</summary>
        Held,

        /// <summary>The pool is letting go of the key.</summary>
        Releasing,
    }
}
