namespace DbLock;

/// <summary>
/// The queue of a pool: who asks for which locks, who holds them, and what the server is to be told. It does no I/O, and its clock is given
/// to it.
/// </summary>
/// <remarks>
/// Everything runs under one lock object, and nothing waits there. The server's answers come in through <see cref="PoolAnswers"/>, from the
/// one conversation that owns the queue; a conversation that was replaced can change nothing any more.
/// </remarks>
internal sealed class PoolQueue
{
    // How long after its timeout a call may wait for an answer that is under way. A call ends within its timeout and a second.
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
    /// <param name="owner">The pool.</param>
    public PoolQueue(TimeProvider time, IPoolOwner owner)
    {
        (_time, _origin) = (time, time.GetTimestamp());
        Lines = new PoolLines(Outbox, owner);
    }

    /// <summary>Gets the lock object under which everything here runs.</summary>
    public System.Threading.Lock Gate { get; } = new();

    public PoolOutbox Outbox { get; } = new();

    public PoolLines Lines { get; }

    /// <summary>Gets or sets the conversation with the server whose answers are accepted.</summary>
    public object? Owner { get; set; }

    /// <summary>Gets or sets the round that is under way; null when the server owes no answer.</summary>
    public PoolRound? Round { get; set; }

    /// <summary>Gets or sets the error with which the server could not be asked the last time; null when it could.</summary>
    public Exception? Trouble { get; set; }

    /// <summary>Gets when a request last waited for another process.</summary>
    public long LastElsewhere { get; private set; }

    /// <summary>Gets the time, in ticks since the queue was made.</summary>
    public long Now => _time.GetElapsedTime(_origin).Ticks;

    /// <summary>Gets when <see cref="Tick"/> has something to do; <see cref="long.MaxValue"/> for never.</summary>
    public long NextDue => Math.Min(Lines.Due.Next, Lines.Deadlines.Next);

    /// <summary>Gets whether anything is held or being let go.</summary>
    public bool HasHolds => Lines.Held.Count > 0
        || Lines.Entries.Any(entry => entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing);

    /// <summary>Gets whether a request waits for another process.</summary>
    public bool WaitsElsewhere { get; private set; }

    /// <summary>Asks for a lock.</summary>
    /// <param name="request">The request.</param>
    /// <param name="timeout">How long its caller waits; for a try, how long it waits for the server's answer.</param>
    /// <returns>False when the queue is closed.</returns>
    public bool Enqueue(PoolRequest request, TimeSpan timeout)
    {
        lock (Gate)
        {
            if (Lines.FindNamesakes(request.Key) is var (asked, other))
            {
                throw PoolReports.OneNumber(asked, other);
            }

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
    /// Ends a wait whose caller has cancelled it. If the server is being asked for it, the wait ends with the answer, or a little later if
    /// that does not come soon.
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
    /// <param name="released">What the caller awaits.</param>
    /// <param name="isConfirmed">Whether the caller wants the server's confirmation even if the lock is handed over in memory.</param>
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
                // The lock is handed over in memory. The carrier's next answer shows whether the session was still there.
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

    /// <summary>Does what is due by now.</summary>
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
                // Turns that are over, and keys that nobody waits for, are forgotten.
                _sweepAt = Lines.Now + SweepEvery;
                foreach (var entry in Lines.Entries)
                {
                    Lines.Touch(entry);
                }
            }

            Finish();
        }
    }

    /// <summary>Notes that a release was heard of.</summary>
    /// <param name="keys">The keys that were released; null when that is not known.</param>
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

    /// <summary>Asks again for everything that another process has, because a release may have been missed.</summary>
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

    /// <summary>Ends all waits, and accepts no more requests.</summary>
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

    /// <summary>Returns the requests that wait, in their order, each once.</summary>
    public List<PoolRequest> Waiting() =>
        [.. Lines.Entries.SelectMany(entry => entry.Waiting).Distinct().OrderBy(request => request.Number)];

    /// <summary>Sets the time of the change that follows. The caller holds the queue's lock.</summary>
    public void Begin() => Lines.Now = Now;

    /// <summary>Does what follows from the change. It is called before the queue's lock is left.</summary>
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

    // All overdue requests are looked at before the first of them leaves its line: the request after it has not been asked for, so its
    // answer would not be known.
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

    // If the server is being asked for the request, its answer ends it, and what it grants is let go.
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
