using System.Data.Common;

namespace DbLock;

/// <summary>Who holds one lock, and who waits for it.</summary>
internal sealed class LockQueue(string name)
{
    private readonly List<Grant> _holds = [];

    public string Name => name;

    public IReadOnlyList<Grant> Holds => _holds;

    public LinkedList<Waiter> Waiters { get; } = [];

    public void Add(Grant grant)
    {
        _holds.Add(grant);
        grant.Session.Held[this] = grant.Session.Held.GetValueOrDefault(this) + 1;
    }

    /// <summary>Lets go of one hold of a session.</summary>
    /// <returns>Whether there was one.</returns>
    public bool RemoveOne(InMemorySession session, Predicate<Grant> which)
    {
        var index = _holds.FindIndex(hold => hold.Session == session && which(hold));
        if (index < 0)
        {
            return false;
        }

        _holds.RemoveAt(index);
        if (--session.Held[this] == 0)
        {
            session.Held.Remove(this);
        }

        return true;
    }

    /// <summary>Says whether nobody else's hold is in the way.</summary>
    public bool Admits(InMemorySession session, bool shared) =>
        _holds.TrueForAll(hold => hold.Session == session || (shared && hold.Shared));

    /// <summary>One hold; a session may have several.</summary>
    public sealed record Grant(InMemorySession Session, bool Shared, DbTransaction? Transaction);

    /// <summary>One wait, which ends once.</summary>
    public sealed class Waiter(LockQueue queue, InMemorySession session, bool shared, DbTransaction? transaction, object gate)
    {
        private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public LockQueue Queue => queue;

        /// <summary>Gets or sets its place in the queue, while it has one.</summary>
        public LinkedListNode<Waiter>? Place { get; set; }

        public InMemorySession Session => session;

        public bool Shared => shared;

        public DbTransaction? Transaction => transaction;

        public bool IsGranted { get; private set; }

        public bool IsOver { get; private set; }

        public void End(bool granted)
        {
            (IsGranted, IsOver) = (granted, true);
            _ended.TrySetResult();
            Monitor.PulseAll(gate);
        }

        /// <summary>Waits until it is over or the time is; called without the gate.</summary>
        public async ValueTask Wait(TimeSpan timeout, bool async, CancellationToken cancellationToken)
        {
            if (async)
            {
                await _ended.Task.WaitAsync(timeout, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return;
            }

            lock (gate)
            {
                for (var start = Environment.TickCount64; !IsOver;)
                {
                    var left = timeout == Timeout.InfiniteTimeSpan
                        ? -1
                        : (long)timeout.TotalMilliseconds - (Environment.TickCount64 - start);
                    if (timeout != Timeout.InfiniteTimeSpan && left <= 0)
                    {
                        return;
                    }

                    Monitor.Wait(gate, (int)left);
                }
            }
        }
    }
}
