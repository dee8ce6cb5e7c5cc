namespace DbLock.Torture;

/// <summary>What a worker does once: which lock it wants, how, and what it does while it has it. Drawn by chance.</summary>
internal sealed record Attempt(Target[] Targets, TimeSpan Timeout)
{
    public bool Shared { get; init; }

    public LockScope Scope { get; init; }

    /// <summary>Gets whether a transaction is open around it.</summary>
    public bool InTransaction { get; init; }

    public bool CommitsFirst { get; init; }

    /// <summary>Gets whether its work fails with an error of the database, which aborts its transaction.</summary>
    public bool Fails { get; init; }

    public bool Async { get; init; }

    public LockWait Wait { get; init; }

    /// <summary>Gets when its wait is cancelled; null when it is not.</summary>
    public TimeSpan? CancelAfter { get; init; }

    /// <summary>Gets how long its work takes, twice.</summary>
    public TimeSpan Work { get; init; }

    public LockKey Key => Targets.Length == 1 ? Targets[0].Key : LockKey.All([.. Targets.Select(target => target.Key)]);

    public bool Fenced => Targets[0].IsFenced;

    /// <summary>Says what matters of it to who reads a history.</summary>
    public override string ToString() =>
        $"timeout {(Timeout < TimeSpan.Zero ? "none" : $"{Timeout.TotalMilliseconds} ms")}, {(CancelAfter is { } after ? $"cancelled after {after.TotalMilliseconds} ms, " : "")}"
        + $"{(Async ? "async" : "sync")}, {Scope}, {Wait}{(InTransaction ? ", in a transaction" : "")}";

    /// <summary>Draws one.</summary>
    /// <param name="random">The chance.</param>
    /// <param name="hasConnection">Whether there may be a transaction, and a synchronous call.</param>
    /// <param name="scope">The only scope that the session can have; null for any.</param>
    /// <param name="isPlain">Whether locks are exclusive and have no tokens.</param>
    public static Attempt Draw(Random random, bool hasConnection, LockScope? scope, bool isPlain = false)
    {
        var all = Target.All.Where(target => !(isPlain && target.IsFenced)).ToArray();
        var plain = all.Where(target => target is { IsFenced: false, IsLong: false }).ToArray();
        var any = all.Where(target => !target.IsLong).ToArray();
        var isLong = !hasConnection && random.Next(15) == 0;
        Target[] targets = isLong ? random.GetItems(all.Where(target => target.IsLong).ToArray(), 1) : scope == LockScope.Transaction ? [plain[random.Next(plain.Length)]]
            : random.Next(12) == 0 ? [.. random.GetItems(plain, 3).Distinct()]
            : random.GetItems(any, 1);
        var fenced = targets[0].IsFenced;
        var transaction = scope == LockScope.Transaction || (hasConnection && !fenced && random.Next(3) == 0);
        var wait = random.Next(100);
        var async = random.Next(2) == 0 || (wait is >= 60 and < 75);
        return new Attempt(targets, wait switch
        {
            < 25 => TimeSpan.Zero,
            < 60 => TimeSpan.FromMilliseconds(random.Next(1, 40)),
            < 75 => System.Threading.Timeout.InfiniteTimeSpan,
            _ => TimeSpan.FromSeconds(5),
        })
        {
            Shared = !fenced && !isLong && random.Next(4) == 0 && !isPlain && scope != LockScope.Lease,
            Scope = scope ?? (transaction && random.Next(2) == 0 ? LockScope.Transaction : LockScope.Session),
            InTransaction = transaction,
            CommitsFirst = random.Next(4) != 0,
            Fails = hasConnection && random.Next(12) == 0,
            Async = async,
            Wait = random.Next(7) == 0 && scope != LockScope.Lease ? LockWait.Yielding : LockWait.Queue,
            CancelAfter = wait is >= 60 and < 75 ? TimeSpan.FromMilliseconds(random.Next(1, 60)) : null,
            Work = TimeSpan.FromMilliseconds(isLong ? random.Next(3000, 15_000) : random.Next(200) switch
            {
                < 120 => random.Next(2),
                < 185 => random.Next(2, 15),
                < 197 => random.Next(50, 150),
                < 199 => 1000,
                _ => 2000,
            }),
        };
    }
}
