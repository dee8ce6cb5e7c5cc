namespace DbLock.Tests.Pool;

/// <summary>The queue of one process, with a conversation that a test steps through.</summary>
internal sealed class ModelPool : IPoolOwner
{
    private readonly Dictionary<(long, bool), (long At, long Grants)> _turns = [];

    public ModelPool(TimeProvider clock)
    {
        Queue = new PoolQueue(clock, this) { Owner = new object() };
        Answers = new PoolAnswers(Queue, (request, error) => new LockException("no room", error));
        Losses = new PoolLosses(Queue, Answers);
    }

    public bool IsKept { get; set; }

    public PoolQueue Queue { get; }

    public PoolAnswers Answers { get; }

    public PoolLosses Losses { get; }

    public List<PoolRequest> Waiting { get; } = [];

    public List<(PooledLock Lock, PoolHold Hold)> Held { get; } = [];

    public Queue<(long, bool)[]> Bells { get; } = new();

    /// <summary>
    /// Gets or sets what the server was told, and its answer that has not arrived; and on whose behalf, which may have been replaced.
    /// </summary>
    public (object Owner, PoolRound Round, CarrierAnswer Answer, bool IsError)? UnderWay { get; set; }

    public (object Owner, PoolRound Round)? Replaced { get; set; }

    public PoolRequest Ask(LockKey key, bool shared, TimeSpan timeout)
    {
        var request = new PoolRequest(key, shared, timeout == TimeSpan.Zero, PoolFlow.Begin());
        Queue.Enqueue(request, timeout == TimeSpan.Zero ? TimeSpan.FromSeconds(15) : timeout);
        Waiting.Add(request);
        return request;
    }

    public void Release(int index)
    {
        var hold = Held[index].Hold;
        Held.RemoveAt(index);
        Queue.Release(hold, new PoolPromise<bool>(), isConfirmed: index % 2 == 0);
    }

    public PoolRound? Next()
    {
        lock (Queue.Gate)
        {
            var round = new PoolRound();
            return Answers.TakeNext(Queue.Owner!, round) ? round : null;
        }
    }

    /// <summary>Notes who was granted what, and checks the order and the turns.</summary>
    public void Collect()
    {
        for (var i = 0; i < Waiting.Count; i++)
        {
            var request = Waiting[i];
            if (!request.IsEnded)
            {
                continue;
            }

            Waiting.RemoveAt(i--);
            if (request.Answer is { IsCompletedSuccessfully: true, Result: { } granted })
            {
                GC.SuppressFinalize(granted);
                Held.Add((granted, granted.Hold));
                CheckOrder(request);
            }
        }
    }

    public void Check(ModelServer server)
    {
        foreach (var (_, hold) in Held.Where(one => one.Hold.IsHeld))
        {
            foreach (var entry in Queue.Lines.Held[hold].Entries)
            {
                Assert.True(
                    server.IsHeldBy(this, entry.Identity, hold.Shared),
                    $"'{hold.Key}' is believed to be held, and the server has given it to another");
                var holders = Queue.Lines.Held.Count(other => other.Value.Entries.Contains(entry));
                Assert.True(hold.Shared || holders == 1, $"two tasks have '{hold.Key}'");
            }
        }

        foreach (var entry in Queue.Lines.Entries)
        {
            Assert.False(entry.IsTouched, "a key is not looked at");
            Assert.True(entry.Turn.HandOvers <= PoolTurn.MostHandOvers + 1 || entry.Shared, "a turn has no end");
            foreach (var request in entry.Waiting)
            {
                Assert.True(
                    request.State != PoolRequest.StateOf.Elsewhere || request.Due != long.MaxValue,
                    $"'{request.Key}' is forgotten: it is never asked for again");
                Assert.True(
                    request.State != PoolRequest.StateOf.Asking || Queue.Outbox.Asks.Contains(request),
                    $"'{request.Key}' is forgotten: nobody asks for it");
            }

            if (entry.Head?.Request is { State: PoolRequest.StateOf.Queued } first)
            {
                var isFree = Array.TrueForAll(
                    first.Places, place => PoolLine.Of(place.Entry).Head == place && place.Entry.Server == PoolEntry.OnServer.None);
                Assert.False(isFree, $"'{first.Key}' is forgotten: it is free, and not asked for");
            }
        }
    }

    public void CheckEmpty()
    {
        Assert.Empty(Waiting);
        Assert.Empty(Queue.Lines.Entries);
        Assert.Empty(Queue.Lines.Held);
        Assert.Equal(0, Queue.Lines.Last.Count);
        Assert.Equal(0, Queue.Lines.Due.Count);
        Assert.Equal(0, Queue.Lines.Deadlines.Count);
        Assert.True(Queue.Outbox.IsEmpty);
    }

    /// <summary>The server grants a key: a turn begins, or goes on.</summary>
    public void Granted(IEnumerable<PoolEntry> entries)
    {
        foreach (var entry in entries)
        {
            _turns[entry.Identity] = (Queue.Now, 0);
        }
    }

    ValueTask<bool> IPoolOwner.Release(PoolHold hold, bool orThrow) => throw new NotSupportedException();

    void IPoolOwner.CheckTrust()
    {
    }

    void IPoolOwner.Abandon(PoolHold hold)
    {
    }

    void IPoolOwner.Follow()
    {
    }

    private void CheckOrder(PoolRequest request)
    {
        if (request.IsSet)
        {
            return;
        }

        var entry = request.Places[0].Entry;
        Assert.DoesNotContain(PoolLine.Of(entry).Waiting, before => !before.IsSet && !before.IsEnded && before.Number < request.Number);
        if (request.Shared)
        {
            return;
        }

        var (at, grants) = _turns.GetValueOrDefault(entry.Identity);
        _turns[entry.Identity] = (at, grants + 1);
        Assert.True(
            grants <= PoolTurn.MostHandOvers + 1 && Queue.Now - at <= PoolTurn.Longest,
            $"'{request.Key}' was handed over for longer than a turn");
    }
}
