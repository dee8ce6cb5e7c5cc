using System.Text;

namespace DbLock;

/// <summary>Who waits for whom on a PostgreSQL server, at one moment.</summary>
/// <remarks>
/// The server's own <c>pg_blocking_pids</c> names those who hold a lock together with all who wait for it and came earlier. Here the two
/// are apart: an <see cref="Edges">edge</see> leads to a holder, a <see cref="QueueEdges">queue edge</see> to one who is ahead.
/// </remarks>
public sealed class PgWaitGraph
{
    private readonly IReadOnlyList<PgLock> _waiting;
    private readonly ILookup<string, PgLock> _byTarget;

    internal PgWaitGraph(IReadOnlyList<PgLock> locks)
    {
        _byTarget = locks.ToLookup(@lock => @lock.Target);
        _waiting = [.. locks.Where(@lock => !@lock.Granted)];
        Edges = [.. _waiting.SelectMany(waiting => Between(waiting, granted: true))];
        Roots = Build(locks);
    }

    /// <summary>Gets the waits for those who hold a lock: ending the holder, or its transaction, is what helps.</summary>
    public IReadOnlyList<PgWaitEdge> Edges { get; }

    /// <summary>
    /// Gets the waits for those who only came earlier. They are as innocent as those behind them, and many: n waiters for one lock have
    /// n(n-1)/2.
    /// </summary>
    public IEnumerable<PgWaitEdge> QueueEdges => _waiting.SelectMany(waiting => Between(waiting, granted: false));

    /// <summary>
    /// Gets those who wait for nobody and for whom others wait, those with the most waiters first; of each deadlock one member is among
    /// them.
    /// </summary>
    public IReadOnlyList<PgWaitNode> Roots { get; }

    /// <summary>Returns the tree in words, one line for each session.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        var shown = new HashSet<PgWaitNode>();
        var next = new Stack<(PgWaitNode Node, int Depth)>(Roots.Reverse().Select(root => (root, 0)));
        while (next.TryPop(out var item))
        {
            var first = shown.Add(item.Node);
            text.Append(' ', 2 * item.Depth).Append(item.Node.ToString()).Append(item.Node.IsDeadlocked ? " (deadlock)" : "")
                .AppendLine(first || item.Node.Waiters.Count == 0 ? "" : " (see above)");
            foreach (var waiter in first ? item.Node.Waiters.Reverse() : [])
            {
                next.Push((waiter, item.Depth + 1));
            }
        }

        return text.ToString();
    }

    /// <summary>Returns the graph of the roots only that have a lock in their tree which matches the question's filter.</summary>
    internal PgWaitGraph Matching(IReadOnlyList<PgLock> locks)
    {
        if (locks.All(@lock => @lock.Matches))
        {
            return this;
        }

        var matching = locks.Where(@lock => @lock.Matches).Select(@lock => @lock.Owner).ToHashSet();
        var kept = Roots.Select(root => root.SelfAndAllWaiters().Select(Owner).ToList())
            .Where(tree => tree.Any(matching.Contains))
            .SelectMany(tree => tree)
            .ToHashSet();

        // Whoever is kept is kept with all who are in its way. Else, of two holders only one might be seen, and ending that one would seem
        // to be enough.
        var edges = Edges.Concat(QueueEdges)
            .Select(edge => (Waiting: edge.Waiting.Owner, Blocking: edge.Blocking.Owner))
            .Distinct()
            .ToLookup(edge => edge.Waiting, edge => edge.Blocking);
        var next = new Queue<object>(kept);
        while (next.TryDequeue(out var waiting))
        {
            foreach (var blocking in edges[waiting].Where(kept.Add))
            {
                next.Enqueue(blocking);
            }
        }

        return new PgWaitGraph([.. locks.Where(@lock => kept.Contains(@lock.Owner))]);
    }

    private static object Owner(PgWaitNode node) => node.PreparedTransaction ?? (object)(node.Session?.LeaderPid ?? node.Pid ?? 0);

    private IEnumerable<PgWaitEdge> Between(PgLock waiting, bool granted) =>
        from blocking in _byTarget[waiting.Target]
        where blocking.Granted == granted && blocking.Mode.ConflictsWith(waiting.Mode) && !blocking.Owner.Equals(waiting.Owner)
            && (granted || (blocking.Owner is int pid && waiting.BlockingPids.Contains(pid)))
        select new PgWaitEdge(waiting, blocking, granted);

    private List<PgWaitNode> Build(IReadOnlyList<PgLock> locks)
    {
        var nodes = new Dictionary<object, PgWaitNode>();
        var blocked = new HashSet<PgWaitNode>();
        var hard = Edges.ToLookup(edge => edge.Waiting, ReferenceEqualityComparer.Instance);
        foreach (var waiting in _waiting)
        {
            var waiter = Node(waiting);
            waiter.Waiting ??= waiting;

            // A session that no holder keeps from the lock waits for those ahead of it in the queue.
            foreach (var edge in hard.Contains(waiting) ? hard[waiting] : Between(waiting, granted: false))
            {
                var blocking = Node(edge.Blocking);
                blocking.Add(waiter);
                blocking.Held ??= edge.Blocking.HeldFor is null ? null : edge.Blocking;
                blocked.Add(waiter);
            }
        }

        var roots = nodes.Values.Where(node => !blocked.Contains(node) && node.Waiters.Count > 0).ToList();
        foreach (var node in nodes.Values.Where(node => blocked.Contains(node) && IsInCircle(node)))
        {
            // One member of each circle is a root.
            node.IsDeadlocked = true;
            if (!roots.Any(root => root.IsDeadlocked && root.SelfAndAllWaiters().Contains(node) && node.SelfAndAllWaiters().Contains(root)))
            {
                roots.Add(node);
            }
        }

        return [.. roots.OrderByDescending(root => root.SelfAndAllWaiters().Count()).ThenBy(root => root.Pid)];

        bool IsInCircle(PgWaitNode node) => node.Waiters.Any(waiter => waiter.SelfAndAllWaiters().Contains(node));

        // The leader of a parallel query stands for all its processes, where it has a lock here.
        PgWaitNode Node(PgLock @lock)
        {
            if (!nodes.TryGetValue(@lock.Owner, out var node))
            {
                var leader = @lock.Session?.LeaderPid is { } pid ? locks.FirstOrDefault(other => other.Pid == pid) : null;
                node = nodes[@lock.Owner] = new PgWaitNode(leader ?? @lock);
            }

            return node;
        }
    }
}
