using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// Renews the leases of one source, all that are due in one statement; ends those that could not be renewed in time; and lets go of what
/// may have been given although nobody waits for it any more.
/// </summary>
/// <remarks>It blocks a thread of its own, because a program whose pool of threads is all in use must not lose its leases.</remarks>
[SuppressMessage("Design", "CA1001", Justification = "It lives as long as its data source, and has nothing open without leases.")]
internal sealed class LeaseRenewer(LeaseServer server)
{
    private const int MostInOne = 10_000;

    private static readonly TimeSpan LongestRetry = TimeSpan.FromSeconds(1);

    // A statement that waits in the server may take its row after it was given up. The row is let go of for at most so long.
    private static readonly TimeSpan LongestLeftover = TimeSpan.FromHours(1);

    private readonly System.Threading.Lock _gate = new();
    private readonly HashSet<LeaseHold> _holds = [];
    private readonly List<Leftover> _leftovers = [];
    private readonly SemaphoreSlim _changed = new(0);
    private ITimer? _losses;
    private long _lossAt = long.MaxValue;
    private long _wakeAt;
    private bool _isRunning;

    /// <summary>Gets how many leases are held, and how many of them were not renewed in time.</summary>
    public (int Held, int Late) State
    {
        get
        {
            lock (_gate)
            {
                var now = Stopwatch.GetTimestamp();
                return (_holds.Count, _holds.Count(hold => hold.IsLate(now)));
            }
        }
    }

    /// <summary>Begins to renew a lease.</summary>
    public void Add(LeaseHold hold)
    {
        lock (_gate)
        {
            _holds.Add(hold);
            EndAt(hold.TrustEnds);
            Wake(hold.RenewAt);
        }
    }

    /// <summary>Renews a lease no more.</summary>
    public void Remove(LeaseHold hold)
    {
        lock (_gate)
        {
            _holds.Remove(hold);
        }
    }

    /// <summary>Lets go of a lease that somebody may have, again and again until it is known, or until it has ended by itself.</summary>
    /// <param name="key">The key.</param>
    /// <param name="options">How it was asked for.</param>
    /// <param name="owner">The owner's id.</param>
    /// <param name="slot">The slot.</param>
    /// <param name="wasHeld">Whether somebody ran under it, so that <see cref="LockOptions.AtLeast"/> is kept.</param>
    public void LetGo(LockKey key, LockOptions options, string owner, int slot, bool wasHeld)
    {
        var least = options.AtLeast < LongestLeftover ? options.AtLeast : LongestLeftover;
        var stays = options.Lease > least ? options.Lease : least;
        options = wasHeld ? options : options with { AtLeast = TimeSpan.Zero };
        lock (_gate)
        {
            var now = Stopwatch.GetTimestamp();
            _leftovers.Add(new(key, options, owner, slot, now + LeaseHold.Ticks(stays)) { At = now });
            Wake(now);
        }
    }

    private void Wake(long at)
    {
        if (!_isRunning)
        {
            _isRunning = true;
            using (ExecutionContext.SuppressFlow())
            {
                OwnThreads.Shared.Run(Run);
            }
        }
        else if (at < _wakeAt)
        {
            _wakeAt = at;
            _changed.Release();
        }
    }

    private void EndAt(long end)
    {
        if (end >= _lossAt)
        {
            return;
        }

        _lossAt = end;
        var wait = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), end) + TimeSpan.FromMilliseconds(1);
        if (_losses is null)
        {
            using (ExecutionContext.SuppressFlow())
            {
                _losses = TimeProvider.System.CreateTimer(
                    static renewer => ((LeaseRenewer)renewer!).EndLost(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            }
        }

        _losses.Change(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
    }

    // It runs on a timer of its own, because the renewing may wait for a server that is silent.
    private void EndLost()
    {
        LeaseHold[] holds;
        lock (_gate)
        {
            _lossAt = long.MaxValue;
            holds = [.. _holds];
        }

        var now = Stopwatch.GetTimestamp();
        var next = long.MaxValue;
        foreach (var hold in holds)
        {
            next = hold.IsHeld(now) ? Math.Min(next, hold.TrustEnds) : next;
        }

        lock (_gate)
        {
            EndAt(next);
        }
    }

    private void Run()
    {
        while (true)
        {
            LeaseHold[] due;
            Leftover[] leftovers;
            TimeSpan wait;
            lock (_gate)
            {
                if (_holds.Count == 0 && _leftovers.Count == 0)
                {
                    _isRunning = false;
                    return;
                }

                var now = Stopwatch.GetTimestamp();
                _leftovers.RemoveAll(leftover => leftover.IsDone || leftover.Until <= now);
                leftovers = [.. _leftovers.Where(leftover => leftover.At <= now)];
                due = _holds.Any(hold => hold.RenewAt <= now)
                    ? [.. _holds.Where(hold => hold.RenewAt <= now + LeaseHold.Ticks(hold.Options.Lease / 12))] : [];
                _wakeAt = _holds.Select(hold => hold.RenewAt).Concat(_leftovers.Select(leftover => leftover.At))
                    .DefaultIfEmpty(now).Min();
                wait = Stopwatch.GetElapsedTime(now, _wakeAt);
            }

            if (due.Length == 0 && leftovers.Length == 0)
            {
                // It looks again at least once a minute, because a timer counts at most so many milliseconds.
                _changed.Wait(TimeSpan.FromMilliseconds(Math.Clamp(wait.TotalMilliseconds, 1, 60_000)));
                continue;
            }

            foreach (var some in due.Chunk(MostInOne))
            {
                Renew(some);
            }

            // What is held comes first: one leftover after another may have to wait for its row.
            foreach (var leftover in leftovers.TakeWhile(_ => !IsAnyDue()))
            {
                LetGo(leftover);
            }
        }
    }

    private bool IsAnyDue()
    {
        lock (_gate)
        {
            var now = Stopwatch.GetTimestamp();
            return _holds.Any(hold => hold.RenewAt <= now);
        }
    }

    private void Renew(LeaseHold[] holds)
    {
        var limit = Limit.Of(holds.Min(hold => hold.Options.Lease) / 6, CancellationToken.None);
        var parts = new Queue<LeaseHold[]>([holds]);
        while (parts.TryDequeue(out var part))
        {
            var answer = AskToRenew(part, limit);
            if (!answer.IsNotNow || part.Length == 1)
            {
                Judge(part, answer);
            }
            else if (limit.LeftToWait > TimeSpan.Zero)
            {
                // Another's transaction has one of the rows, and no other lease is lost for it. The halves wait for their turn, so that all
                // that can be renewed is renewed before the one is found.
                var half = part.Length / 2;
                parts.Enqueue(part[..half]);
                parts.Enqueue(part[half..]);
            }
            else
            {
                NotRenewed([part, .. parts], answer.Error!);
                return;
            }
        }
    }

    private LeaseAnswer AskToRenew(LeaseHold[] holds, Limit limit)
    {
        try
        {
            return Synchronously.Completed(server.Ask(
                (leases, table) => leases.Renew(
                    table, [.. holds.SelectMany(hold => hold.Rows).OrderBy(row => row.Name, StringComparer.Ordinal)]) with
                {
                    // Where all threads of the pool are blocked, nothing but the command's own time ends it.
                    Limit = LeaseServer.LongestBlock(limit),
                },
                holds[0].Key, holds[0].Options, limit, async: false, attempts: 1));
        }
        catch (Exception e)
        {
            return new(null, Stopwatch.GetTimestamp(), e);
        }
    }

    private static void NotRenewed(IEnumerable<LeaseHold[]> parts, Exception error)
    {
        var now = Stopwatch.GetTimestamp();
        LeaseHold[] holds = [.. parts.SelectMany(static part => part)];
        Log.NotRenewed(QuietLogger.Of(holds[0].Options.Logger), holds.Length, holds[0].Key, error);
        foreach (var hold in holds)
        {
            var retry = hold.Options.Lease / 12;
            hold.RenewAt = now + LeaseHold.Ticks(retry < LongestRetry ? retry : LongestRetry);
        }
    }

    private static void Judge(LeaseHold[] holds, LeaseAnswer answer)
    {
        var now = Stopwatch.GetTimestamp();
        if (answer.Reply is not { } reply)
        {
            NotRenewed([holds], answer.Error!);
            return;
        }

        Dictionary<string, int> renewed = [];
        foreach (var (owner, _, _) in reply.Rows)
        {
            renewed[owner] = renewed.GetValueOrDefault(owner) + 1;
        }

        foreach (var hold in holds)
        {
            if (renewed.GetValueOrDefault(hold.Owner) == hold.Rows.Length)
            {
                hold.Confirm(answer.Asked, now);
            }
            else
            {
                hold.Lose(null);
            }
        }
    }

    private void LetGo(Leftover leftover)
    {
        var (key, options, owner, slot, _) = leftover;
        try
        {
            var answer = Synchronously.Completed(server.Ask(
                (leases, table) => leases.Release(table, slot == 0
                    ? Leasing.AllRows(leases, key, options, owner) : Leasing.Rows(leases, key, options, owner, slot)),
                key, options, Limit.Of(Limit.Way, CancellationToken.None), async: false));
            leftover.IsDone = answer.Reply is { Rows.Count: > 0 };
        }
        catch (Exception)
        {
            // It is tried again, and what was given ends by itself.
        }

        leftover.Wait = 2 * leftover.Wait;
        leftover.At = Stopwatch.GetTimestamp() + LeaseHold.Ticks(leftover.Wait);
    }

    private sealed record Leftover(LockKey Key, LockOptions Options, string Owner, int Slot, long Until)
    {
        public long At { get; set; }

        public TimeSpan Wait { get; set; } = TimeSpan.FromMilliseconds(250);

        public bool IsDone { get; set; }
    }
}
