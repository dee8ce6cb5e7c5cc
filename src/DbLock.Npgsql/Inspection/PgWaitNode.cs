namespace DbLock;

/// <summary>A session, or a prepared transaction, in the tree of those who wait for each other.</summary>
public sealed class PgWaitNode
{
    private readonly List<PgWaitNode> _waiters = [];

    internal PgWaitNode(PgLock @lock) => (Session, PreparedTransaction, Pid) = (@lock.Session, @lock.PreparedTransaction, @lock.Pid);

    /// <summary>Gets the session; null for a prepared transaction, and for a session that ended while the server was asked.</summary>
    public PgSession? Session { get; }

    /// <summary>Gets the name of the prepared transaction; null for a session.</summary>
    public string? PreparedTransaction { get; }

    /// <summary>Gets the process id; null for a prepared transaction.</summary>
    public int? Pid { get; }

    /// <summary>Gets the lock that it waits for; null when it waits for none, and only others for it.</summary>
    public PgLock? Waiting { get; internal set; }

    /// <summary>Gets a lock that it holds and others wait for, since when it tells; null when there is none.</summary>
    public PgLock? Held { get; internal set; }

    /// <summary>Gets those who wait for it, the longest first. One who waits for several is below each of them.</summary>
    public IReadOnlyList<PgWaitNode> Waiters => _waiters;

    /// <summary>Gets whether it waits, through others, for itself: a deadlock, which the server ends after its deadlock_timeout.</summary>
    public bool IsDeadlocked { get; internal set; }

    /// <summary>Returns it and all who wait for it, through others too, each of them once.</summary>
    public IEnumerable<PgWaitNode> SelfAndAllWaiters()
    {
        var seen = new HashSet<PgWaitNode> { this };
        var next = new Queue<PgWaitNode>(seen);
        while (next.TryDequeue(out var node))
        {
            yield return node;
            foreach (var waiter in node._waiters.Where(seen.Add))
            {
                next.Enqueue(waiter);
            }
        }
    }

    /// <summary>Returns it in words.</summary>
    public override string ToString()
    {
        var name = PreparedTransaction is { } prepared ? $"the prepared transaction '{prepared}'" : Session?.ToString() ?? $"pid {Pid}";
        return Waiting switch
        {
            null when Held is { HeldFor: { } time } => $"{name} has held {Held.Mode} on {Held.What()} for {time.InWords()}",
            null => name + Session?.Doing(),
            { WaitDuration: { } duration } => $"{name} has waited {duration.InWords()} for {Waiting.Mode} on {Waiting.What()}",
            _ => $"{name} waits for {Waiting.Mode} on {Waiting.What()}",
        };
    }

    internal void Add(PgWaitNode waiter)
    {
        if (!_waiters.Contains(waiter))
        {
            _waiters.Add(waiter);
        }
    }
}
