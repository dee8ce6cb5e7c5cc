namespace DbLock;

/// <summary>
/// The queue of a pool: who asks for which locks, who holds them, and what the server is to be told. It knows no server, and no clock but
/// the one it is given.
/// </summary>
/// <remarks>
/// Everything is done under one lock object, in which nothing waits. What the server says comes in through <see cref="PoolAnswers"/>, from
/// the one conversation that owns the queue; a conversation that was replaced can touch nothing any more.
/// </remarks>
internal sealed class PoolQueue
{
    // A call ends within its timeout and a second.
    private static readonly long Grace = TimeSpan.FromMilliseconds(750).Ticks;
    private static readonly long GraceOfCancel = TimeSpan.FromMilliseconds(500).Ticks;

    private static readonly long SweepEvery = TimeSpan.FromMilliseconds(250).Ticks;

    private readonly TimeProvider _time;
    private readonly long _origin;
    private long _lastNumber;
    private long _sweepAt;
    private bool _isClosed;

    /// <summary>Initializes a new instance.</summary>
    /// <param name="time">The clock.</param>
    /// <param name="owner">Whose locks these are.</param>
    public PoolQueue(TimeProvider time, IPoolOwner owner)
    {
        (_time, _origin) = (time, time.GetTimestamp());
        Lines = new PoolLines(Outbox, owner);
    }

    /// <summary>Gets what everything here is done under.</summary>
    public System.Threading.Lock Gate { get; } = new();

    public PoolOutbox Outbox { get; } = new();

    public PoolLines Lines { get; }

    /// <summary>Gets or sets the conversation with the server whose answers count.</summary>
    public object? Owner { get; set; }

    /// <summary>Gets or sets what the server is being told; null when it owes no answer.</summary>
    public PoolRound? Round { get; set; }

    /// <summary>Gets or sets why the server could not be asked the last time; null when it could.</summary>
    public Exception? Trouble { get; set; }

    /// <summary>Gets when anybody last waited for another process.</summary>
    public long LastElsewhere { get; private set; }

    /// <summary>Gets the time, in ticks since the queue was made.</summary>
    public long Now => _time.GetElapsedTime(_origin).Ticks;

    /// <summary>Gets when <see cref="Tick"/> has something to do; <see cref="long.MaxValue"/> for never.</summary>
    public long NextDue => Math.Min(Lines.Due.Next, Lines.Deadlines.Next);

    /// <summary>Gets whether anything is held, or on its way to be let go.</summary>
    public bool HasHolds => Lines.Held.Count > 0
        || Lines.Entries.Any(entry => entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing);

    /// <summary>Gets whether a task waits for another process.</summary>
    public bool WaitsElsewhere { get; private set; }

    /// <summary>Asks for a lock.</summary>
    /// <param name="request">The request.</param>
    /// <param name="timeout">How long its caller waits; for a try, how long it waits for the server's answer.</param>
    /// <returns>False when the queue is closed.</returns>
    public bool Enqueue(PoolRequest request, TimeSpan timeout)
    {
        lock (Gate)
        {
            if (_isClosed)
            {
                return false;
            }

            Begin();
            (request.Number, request.Start, request.IsLast) = (++_lastNumber, Lines.Now, request.IsTry);
            Lines.Enter(request);
            Lines.Drain();
            if (request.State != PoolRequest.StateOf.Over)
            {
                Lines.Deadlines.Set(request, timeout == Timeout.InfiniteTimeSpan ? long.MaxValue : Lines.Now + timeout.Ticks);
                if (request.IsTry)
                {
                    Lines.Last.Add(request);
                }
            }

            Finish();
            return true;
        }
    }

    /// <summary>
    /// Ends a wait whose caller does not want it any more; what the server is being asked at this moment, its answer ends, if that does not
    /// take long.
    /// </summary>
    public void Cancel(PoolRequest request)
    {
        lock (Gate)
        {
            if (request.IsEnded || request.State == PoolRequest.StateOf.Over)
            {
                return;
            }

            Begin();
            (request.IsCancelled, request.IsLast) = (true, true);
            if (request.State == PoolRequest.StateOf.Asked)
            {
                Lines.Deadlines.Set(request, Lines.Now + GraceOfCancel);
            }
            else
            {
                GiveUp(request, isHeld: false);
            }

            Finish();
        }
    }

    /// <summary>Lets go of a lock.</summary>
    /// <param name="hold">What is held.</param>
    /// <param name="released">What its caller awaits.</param>
    /// <param name="isConfirmed">Whether the caller wants the server's word even if the lock is handed over in memory.</param>
    /// <returns>False when it is not held.</returns>
    public bool Release(PoolHold hold, PoolPromise<bool> released, bool isConfirmed)
    {
        lock (Gate)
        {
            if (!hold.IsHeld)
            {
                return false;
            }

            Begin();
            hold.Released = released;
            Lines.LetGo(hold);
            if (hold.Unlocking == 0 && isConfirmed)
            {
                // It was handed over in memory: whether the carrier was still there, its next answer tells.
                hold.Unlocking = 1;
                Outbox.Checks.Add(hold);
            }

            if (hold.Unlocking == 0)
            {
                released.End(true);
            }

            Finish();
            return true;
        }
    }

    /// <summary>Does what the time has come for.</summary>
    public void Tick()
    {
        lock (Gate)
        {
            Begin();
            while (Lines.Due.TakeDue(Lines.Now) is { } request)
            {
                if (request.State == PoolRequest.StateOf.Elsewhere)
                {
                    Lines.PutBack(request);
                }
                else
                {
                    Lines.TouchAll(request);
                }
            }

            Expire();
            if (Lines.Now >= _sweepAt)
            {
                // The memory of turns that nobody waits for is over.
                _sweepAt = Lines.Now + SweepEvery;
                foreach (var entry in Lines.Entries)
                {
                    Lines.Touch(entry);
                }
            }

            Finish();
        }
    }

    /// <summary>A release was heard of.</summary>
    /// <param name="keys">The keys; null for any.</param>
    public void Hear(IEnumerable<(long, bool)>? keys)
    {
        lock (Gate)
        {
            Begin();
            foreach (var entry in keys is null ? [.. Lines.Entries] : keys.Select(Lines.Find))
            {
                if (entry?.Head?.Request is { } first)
                {
                    first.IsRung = first.State == PoolRequest.StateOf.Asked;
                    if (first.State == PoolRequest.StateOf.Elsewhere)
                    {
                        first.AnswersBell = true;
                        Lines.PutBack(first);
                    }
                }
            }

            Finish();
        }
    }

    /// <summary>Asks again for all that another process has: a release may have been missed.</summary>
    public void AskAgain()
    {
        lock (Gate)
        {
            Begin();
            foreach (var request in Waiting().Where(request => request is { State: PoolRequest.StateOf.Elsewhere, WasElsewhere: true }))
            {
                Lines.PutBack(request);
            }

            Finish();
        }
    }

    /// <summary>Ends all waits, and takes no more.</summary>
    public void Close(Func<PoolRequest, Exception> error)
    {
        lock (Gate)
        {
            Begin();
            _isClosed = true;
            foreach (var request in Waiting())
            {
                Fail(request, error(request));
            }

            Finish();
        }
    }

    /// <summary>Ends a wait with an error.</summary>
    public void Break(PoolRequest request, Exception error)
    {
        lock (Gate)
        {
            Begin();
            Fail(request, error);
            Finish();
        }
    }

    /// <summary>Returns who waits, each once, in their order.</summary>
    public List<PoolRequest> Waiting() =>
        [.. Lines.Entries.SelectMany(entry => entry.Waiting).Distinct().OrderBy(request => request.Number)];

    /// <summary>Takes over the time. Called under the lock.</summary>
    public void Begin() => Lines.Now = Now;

    /// <summary>Does what follows from what was done, before the lock is left.</summary>
    public void Finish()
    {
        Lines.Drain();
        while (Lines.Last.TakeKnown(Lines.Now) is { Count: > 0 } known)
        {
            known.ForEach(request => GiveUp(request, isHeld: true));
            Lines.Drain();
        }

        var waits = Lines.Due.Count > 0 && Lines.HasElsewhere();
        LastElsewhere = waits || WaitsElsewhere ? Lines.Now : LastElsewhere;
        WaitsElsewhere = waits;
    }

    // All are looked at before the first of them leaves its line: the next has not been asked for yet.
    private void Expire()
    {
        List<(PoolRequest Request, bool IsHeld)> over = [];
        while (Lines.Deadlines.TakeDue(Lines.Now) is { } request)
        {
            var isHeld = request.State != PoolRequest.StateOf.Asked && PoolLast.IsHeld(request, Lines.Now);
            if (request.IsLast || isHeld)
            {
                over.Add((request, isHeld));
                continue;
            }

            Lines.Last.Add(request);
            Lines.Deadlines.Set(request, Lines.Now + Grace);
        }

        over.ForEach(one => GiveUp(one.Request, one.IsHeld));
    }

    private void Fail(PoolRequest request, Exception error)
    {
        request.Fail(error);
        Leave(request);
    }

    private void GiveUp(PoolRequest request, bool isHeld)
    {
        if (request.IsCancelled || isHeld)
        {
            request.End(null);
        }
        else
        {
            request.Fail(Unasked(request));
        }

        Leave(request);
    }

    // What the server is being asked, its answer ends: what it grants then is let go.
    private void Leave(PoolRequest request)
    {
        if (request.State == PoolRequest.StateOf.Asked)
        {
            Lines.Deadlines.Remove(request);
            Lines.Last.Remove(request);
            return;
        }

        if (request.State == PoolRequest.StateOf.Asking)
        {
            Lines.Unask(request);
        }

        if (request.State != PoolRequest.StateOf.Over)
        {
            Lines.Leave(request);
        }
    }

    private LockException Unasked(PoolRequest request) => new(
        $"Lock '{request.Key}' could not be asked for in time: "
        + (Trouble is null ? "the server has not answered. " : "there was no connection to ask over. ")
        + "It is not acquired, and nobody knows whether anybody holds it. "
        + "Look at the server, the network and the data source, then try again.",
        Trouble);
}
