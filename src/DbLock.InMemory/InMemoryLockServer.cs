using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>
/// A lock server in this process, for tests that want no database: first come first served, with deadlocks found and sessions that can be
/// ended.
/// </summary>
/// <remarks><b>Threads.</b> May be used from any number of threads.</remarks>
public sealed class InMemoryLockServer
{
    private readonly Dictionary<string, LockQueue> _queues = [];
    private readonly Dictionary<int, InMemorySession> _sessions = [];
    private int _lastSession;
    private long _lastToken;

    /// <summary>Gets what everything here is done under.</summary>
    internal object Gate { get; } = new();

    /// <summary>Makes a connection, closed.</summary>
    public InMemoryConnection CreateConnection() => new(this);

    /// <summary>Makes a data source of such connections.</summary>
    public DbDataSource CreateDataSource() => new Connections(this);

    /// <summary>Says whether anybody holds a lock, of several keys all.</summary>
    /// <param name="key">The key.</param>
    public bool IsHeld(LockKey key) => IsHeld(key, _ => true);

    /// <summary>Says whether a session holds a lock, of several keys all.</summary>
    /// <param name="sessionId">Its number, <see cref="InMemoryConnection.SessionId"/>.</param>
    /// <param name="key">The key.</param>
    public bool IsHeldBy(int sessionId, LockKey key) => IsHeld(key, hold => hold.Session.Id == sessionId);

    /// <summary>Says whether a session waits for a lock.</summary>
    /// <param name="sessionId">Its number, <see cref="InMemoryConnection.SessionId"/>.</param>
    public bool IsWaiting(int sessionId)
    {
        lock (Gate)
        {
            return _sessions.TryGetValue(sessionId, out var session) && session.Waiter is { IsOver: false };
        }
    }

    /// <summary>
    /// Ends a session, as the death of a server process does: its locks are free, and the connection finds out when it is next used.
    /// </summary>
    /// <param name="sessionId">Its number, <see cref="InMemoryConnection.SessionId"/>.</param>
    /// <returns>Whether there was such a session.</returns>
    public bool EndSession(int sessionId)
    {
        InMemorySession? session;
        lock (Gate)
        {
            _sessions.TryGetValue(sessionId, out session);
        }

        session?.End();
        return session is not null;
    }

    /// <summary>Occurs when a pool tells the others of a release.</summary>
    internal event Action<string>? Rung;

    internal void Ring(string message) => Rung?.Invoke(message);

    internal long NextToken() => Interlocked.Increment(ref _lastToken) << 10;

    internal InMemorySession NewSession()
    {
        lock (Gate)
        {
            var session = new InMemorySession(this, ++_lastSession);
            _sessions.Add(session.Id, session);
            return session;
        }
    }

    internal void Forget(InMemorySession session) => _sessions.Remove(session.Id);

    internal LockQueue Queue(string name) => _queues.TryGetValue(name, out var queue) ? queue : _queues[name] = new LockQueue(name);

    internal bool TryQueue(string name, [NotNullWhen(true)] out LockQueue? queue) => _queues.TryGetValue(name, out queue);

    /// <summary>Grants to those who wait what can be granted now, first come first served.</summary>
    internal void Advance(LockQueue queue)
    {
        while (queue.Waiters.First is { Value: var first } && queue.Admits(first.Session, first.Shared))
        {
            queue.Waiters.RemoveFirst();
            first.Place = null;
            queue.Add(new(first.Session, first.Shared, first.Transaction));
            first.End(granted: true);
        }

        if (queue.Holds.Count == 0 && queue.Waiters.Count == 0)
        {
            _queues.Remove(queue.Name);
        }
    }

    private bool IsHeld(LockKey key, Predicate<LockQueue.Grant> how)
    {
        ArgumentNullException.ThrowIfNull(key);
        lock (Gate)
        {
            return key.Keys.All(
                one => TryQueue(InMemoryDialect.Instance.Identify(one), out var queue) && queue.Holds.Any(hold => how(hold)));
        }
    }

    private sealed class Connections(InMemoryLockServer server) : DbDataSource
    {
        public override string ConnectionString => "";

        protected override DbConnection CreateDbConnection() => server.CreateConnection();
    }
}
