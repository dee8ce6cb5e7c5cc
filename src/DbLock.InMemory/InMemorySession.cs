using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>What a server in memory knows of one connection.</summary>
internal sealed class InMemorySession(InMemoryLockServer server, int id)
{
    private readonly TaskCompletionSource _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _ended;

    public int Id => id;

    /// <summary>Gets what it waits for at this moment.</summary>
    public LockQueue.Waiter? Waiter { get; private set; }

    /// <summary>Gets the locks that it holds, each with how many holds it has of it.</summary>
    public Dictionary<LockQueue, int> Held { get; } = [];

    public void CheckAlive()
    {
        if (_ended)
        {
            throw new InMemoryException("The session was ended.", InMemoryException.SessionEnded);
        }
    }

    /// <summary>Acquires locks one after the other, all or none.</summary>
    public async ValueTask<bool> Acquire(
        string[] names, bool shared, DbTransaction? transaction, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var taken = 0;
        try
        {
            foreach (var name in names)
            {
                var left = timeout <= TimeSpan.Zero
                    ? timeout
                    : TimeSpan.FromTicks(Math.Max(0, (timeout - Stopwatch.GetElapsedTime(start)).Ticks));
                if (!await AcquireOne(name, shared, transaction, left, async, cancellationToken).ConfigureAwait(false))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    return false;
                }

                taken++;
            }

            return true;
        }
        finally
        {
            if (taken < names.Length)
            {
                lock (server.Gate)
                {
                    foreach (var name in names[..taken])
                    {
                        LetGo(name, shared, transaction);
                    }
                }
            }
        }
    }

    public bool IsHeld(string[] names, bool shared)
    {
        lock (server.Gate)
        {
            CheckAlive();
            return Array.TrueForAll(names, IsHeldByThis);
        }

        bool IsHeldByThis(string name) =>
            server.TryQueue(name, out var queue) && queue.Holds.Any(hold => hold.Session == this && hold.Shared == shared);
    }

    /// <summary>Says whether another session holds a lock.</summary>
    public bool IsHeldByAnother(string name)
    {
        lock (server.Gate)
        {
            return server.TryQueue(name, out var queue) && queue.Holds.Any(hold => hold.Session != this);
        }
    }

    /// <summary>Returns how many locks it holds.</summary>
    public int Count()
    {
        lock (server.Gate)
        {
            return Held.Values.Sum();
        }
    }

    public bool Release(string[] names, bool shared)
    {
        lock (server.Gate)
        {
            CheckAlive();
            var all = true;
            foreach (var name in names)
            {
                all &= LetGo(name, shared, transaction: null);
            }

            return all;
        }
    }

    /// <summary>Returns a fencing token larger than all before, with room for grants in a pool's memory.</summary>
    public long NextToken() => server.NextToken();

    public int ReleaseAll()
    {
        LetGoAll(_ => true);
        return 1;
    }

    /// <summary>Tells all who listen.</summary>
    public void Ring(string message) => server.Ring(message);

    /// <summary>Hears what is told, until it is cancelled or the session ends.</summary>
    public async Task Hear(Action<string> heard, CancellationToken cancellationToken)
    {
        server.Rung += heard;
        try
        {
            await _over.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
            CheckAlive();
        }
        finally
        {
            server.Rung -= heard;
        }
    }

    public void EndTransaction(DbTransaction transaction) => LetGoAll(hold => hold.Transaction == transaction);

    /// <summary>Ends the session with all that it holds and waits for.</summary>
    public void End()
    {
        lock (server.Gate)
        {
            if (_ended)
            {
                return;
            }

            _ended = true;
            server.Forget(this);
            if (Waiter is { } waiter)
            {
                // It leaves the queue at once: a lock that is let go now must not be granted to it.
                waiter.End(granted: false);
                Leave(waiter);
            }
        }

        LetGoAll(_ => true);
        _over.TrySetResult();
    }

    private async ValueTask<bool> AcquireOne(
        string name, bool shared, DbTransaction? transaction, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        LockQueue.Waiter waiter;
        lock (server.Gate)
        {
            CheckAlive();
            var queue = server.Queue(name);

            // A session that holds the lock already does not queue behind those who wait for it.
            if (queue.Admits(this, shared) && (queue.Waiters.Count == 0 || Held.ContainsKey(queue)))
            {
                queue.Add(new(this, shared, transaction));
                return true;
            }

            if (timeout == TimeSpan.Zero)
            {
                return false;
            }

            waiter = new(queue, this, shared, transaction, server.Gate);
            waiter.Place = queue.Waiters.AddLast(waiter);
            Waiter = waiter;
            if (Held.Count > 0 && IsWaitedForBy(queue, []))
            {
                Leave(waiter);
                throw new InMemoryException(
                    "The wait would never end: those who hold the lock wait for this session.", InMemoryException.Deadlock);
            }
        }

        await waiter.Wait(timeout, async, cancellationToken).ConfigureAwait(false);
        lock (server.Gate)
        {
            if (!waiter.IsOver)
            {
                waiter.End(granted: false);
            }

            Leave(waiter);
            CheckAlive();
            return waiter.IsGranted;
        }
    }

    // Says whether a session that holds the lock, or queues for it, waits for this one. This one has come last, so that whoever waits for
    // it waits for what it holds.
    private bool IsWaitedForBy(LockQueue queue, HashSet<LockQueue> seen) =>
        seen.Add(queue) && queue.Holds.Select(hold => hold.Session).Concat(queue.Waiters.Select(waiter => waiter.Session)).Any(
            other => other != this && other.Waiter is { IsOver: false, Queue: var next }
                && (Held.ContainsKey(next) || IsWaitedForBy(next, seen)));

    private void Leave(LockQueue.Waiter waiter)
    {
        Waiter = null;
        if (waiter.Place is { } place)
        {
            waiter.Place = null;
            waiter.Queue.Waiters.Remove(place);
            server.Advance(waiter.Queue);
        }
    }

    private bool LetGo(string name, bool shared, DbTransaction? transaction)
    {
        if (!server.TryQueue(name, out var queue))
        {
            return false;
        }

        if (!queue.RemoveOne(this, hold => hold.Shared == shared && hold.Transaction == transaction))
        {
            return false;
        }

        server.Advance(queue);
        return true;
    }

    private void LetGoAll(Predicate<LockQueue.Grant> ends)
    {
        lock (server.Gate)
        {
            foreach (var queue in Held.Keys.ToList())
            {
                while (queue.RemoveOne(this, ends))
                {
                }

                server.Advance(queue);
            }
        }
    }
}
