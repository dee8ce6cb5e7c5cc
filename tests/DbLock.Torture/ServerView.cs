namespace DbLock.Torture;

/// <summary>A session of the server; a number of a process may come again, with another start.</summary>
internal readonly record struct ServerSession(int Pid, long Start);

/// <summary>A lock that the server says is held.</summary>
internal readonly record struct ServerLock(ServerSession Session, string App, long Number, bool IsPair, bool Shared)
{
    public bool Is(Target target) => Number == target.Number && IsPair == target.IsPair;
}

/// <summary>What the server says at one moment.</summary>
/// <param name="AskedAt">When it was asked, in milliseconds.</param>
/// <param name="Sessions">The workers' sessions, with their application's name and their state.</param>
/// <param name="Locks">The advisory locks that they hold.</param>
internal sealed record ServerView(long AskedAt, IReadOnlyDictionary<ServerSession, (string App, string State)> Sessions, IReadOnlyList<ServerLock> Locks);
