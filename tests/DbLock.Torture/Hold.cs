namespace DbLock.Torture;

/// <summary>One attempt to hold a lock, from its beginning to its end, as its worker tells it.</summary>
internal sealed class Hold(string id, string worker, string app, Target[] targets, bool shared, bool isOwn, long triedAt)
{
    public enum StateOf
    {
        Trying,
        Entered,
        Leaving,
        Ended,
    }

    public string Id { get; } = id;

    public string Worker { get; } = worker;

    /// <summary>Gets the name that its session gives the server.</summary>
    public string App { get; } = app;

    public Target[] Targets { get; } = targets;

    public bool Shared { get; } = shared;

    public bool Fenced => Targets[0].IsFenced;

    /// <summary>Gets whether its connection is the lock's alone, so that a loss is noticed though nobody uses it.</summary>
    public bool IsOwn { get; } = isOwn;

    public long TriedAt { get; } = triedAt;

    /// <summary>Gets or sets the largest token of its key when it began: its own must be larger.</summary>
    public long TokenBefore { get; set; }

    public StateOf State { get; set; }

    public long EnteredAt { get; set; }

    public long EndedAt { get; set; }

    /// <summary>Gets or sets the session that holds it, once the server has said so.</summary>
    public ServerSession? Session { get; set; }

    public long Token { get; set; }

    /// <summary>Gets or sets what it read of the resource.</summary>
    public long Read { get; set; }

    /// <summary>Gets or sets when the server was first seen not to hold it, or another to hold it too; 0 while all is well.</summary>
    public long MustBeToldSince { get; set; }

    public string? MustBeToldOf { get; set; }

    /// <summary>Gets or sets whether its worker knows that all was not well: told of the loss, or of an error, or dead.</summary>
    public bool IsTold { get; set; }

    /// <summary>Gets the holds that overlapped with it, of which at least one must have been told of a loss.</summary>
    public List<Hold> Overlaps { get; } = [];

    public bool Has(ServerLock one) => App == one.App && Targets.Any(one.Is);

    public override string ToString() => $"{Id} ({App}) of {string.Join('+', Targets.Select(target => target.ToString()))}{(Shared ? " shared" : "")}";
}
