namespace DbLock.Tests.Pool;

/// <summary>One run of random steps, the same for the same seed.</summary>
internal sealed class PoolQueueRun
{
    private const int Keys = 4;

    private readonly Random _random;
    private readonly HandClock _clock = new();
    private readonly ModelServer _server = new();
    private readonly ModelPool[] _pools;
    private readonly object _stranger = new();
    private readonly List<CarriedLock> _strangers = [];
    private readonly bool _isSharing;
    private readonly bool _isFaulty;

    public PoolQueueRun(int seed)
    {
        _random = new Random(seed);
        _pools = [.. Enumerable.Range(0, 1 + (seed & 1) + (seed >> 1 & 1)).Select(_ => new ModelPool(_clock))];
        (_isSharing, _isFaulty) = ((seed & 4) != 0, (seed & 8) != 0);
    }

    public int Step { get; private set; }

    public void Run(int steps)
    {
        for (; Step < steps; Step++)
        {
            var pool = _pools[_random.Next(_pools.Length)];
            Do(pool);
            Check();
        }

        End();
    }

    private void Check()
    {
        foreach (var pool in _pools)
        {
            pool.Collect();
        }

        foreach (var pool in _pools)
        {
            pool.Check(_server);
        }
    }

    private void Do(ModelPool pool)
    {
        switch (_random.Next(20))
        {
            case < 5 when pool.Waiting.Count < 30:
                pool.Ask(Key(), _isSharing && _random.Next(3) == 0, Timeout());
                break;
            case < 9 when pool.Held.Count > 0:
                pool.Release(_random.Next(pool.Held.Count));
                break;
            case 9 when pool.Waiting.Count > 0:
                pool.Queue.Cancel(pool.Waiting[_random.Next(pool.Waiting.Count)]);
                break;
            case 10:
                Stranger();
                break;
            case 11 when _isFaulty && _random.Next(20) == 0:
                Replace(pool);
                break;
            case < 14:
                Pass(TimeSpan.FromTicks(_random.Next(_random.Next(10) == 0 ? 5_000_000 : 100_000)));
                break;
            case < 15 when pool.Bells.TryDequeue(out var keys):
                pool.Queue.Hear(keys);
                break;
            default:
                Converse(pool, mayFail: _isFaulty);
                break;
        }
    }

    // Half a conversation: a round goes out, or its answer comes in.
    private void Converse(ModelPool pool, bool mayFail)
    {
        if (pool.UnderWay is { } underWay)
        {
            pool.UnderWay = null;
            pool.Granted(underWay.Round.Asks.SelectMany(request => request.AskedFor()));
            if (underWay.IsError)
            {
                var failure = new PoolFailure(new TimeoutException(), IsFinal: _random.Next(3) == 0);
                var held = _server.AreHeld(pool, underWay.Round);
                pool.Answers.Mend(underWay.Owner, underWay.Round, held, failure, isFenced: _random.Next(4) == 0);
            }
            else
            {
                pool.Answers.Apply(underWay.Owner, underWay.Round, underWay.Answer, took: 1, more: 0);
            }

            return;
        }

        if (pool.Next() is not { IsEmpty: false } round)
        {
            return;
        }

        // An error comes before or after the statement was run.
        var isError = mayFail && _random.Next(10) == 0;
        var (released, acquired) = isError && _random.Next(2) == 0 ? ("", "") : _server.Carry(pool, round);
        var others = _pools.Where(other => other != pool && other.Queue.WaitsElsewhere).ToList();
        if (!isError && round.Releases.Count > 0)
        {
            others.ForEach(other => other.Bells.Enqueue([.. round.Releases.Select(one => (one.Number, one.IsPair))]));
        }

        bool? othersListen = round.Releases.Count == 0 ? null : others.Count > 0;
        pool.UnderWay = (pool.Queue.Owner!, round, new CarrierAnswer(released, othersListen, acquired, 0, null), isError);
    }

    // The session ends, and another conversation begins; what the old one still hears changes nothing.
    private void Replace(ModelPool pool)
    {
        var old = pool.Queue.Owner!;
        _server.End(pool);
        pool.Losses.LoseAll(old, new object(), new TimeoutException());
        foreach (var (_, hold) in pool.Held)
        {
            Assert.False(hold.IsHeld);
        }

        if (pool.UnderWay is { } underWay)
        {
            pool.UnderWay = null;
            Assert.Null(pool.Answers.Apply(old, underWay.Round, underWay.Answer, took: 1, more: 0));
            pool.Answers.Mend(old, underWay.Round, "", new PoolFailure(new TimeoutException()), isFenced: false);
        }

        if (_random.Next(2) == 0)
        {
            pool.Losses.CannotConnect(pool.Queue.Owner!, new TimeoutException(), TimeSpan.TicksPerSecond / 10, allWait: false);
        }
    }

    private void Stranger()
    {
        if (_strangers.Count > 0 && _random.Next(2) == 0)
        {
            _server.Release(_stranger, _strangers[^1]);
            _strangers.RemoveAt(_strangers.Count - 1);
            return;
        }

        var one = new CarriedLock(1 + _random.Next(Keys), IsPair: false, Shared: false);
        if (!_server.IsHeldBy(_stranger, (one.Number, false), shared: false) && _server.TryTake(_stranger, one))
        {
            _strangers.Add(one);
        }
    }

    private void Pass(TimeSpan time)
    {
        _clock.Advance(time);
        foreach (var pool in _pools)
        {
            pool.Queue.Tick();
        }
    }

    // Everybody lets go, and nothing fails any more: whoever waits has the lock at last, and nothing is kept.
    private void End()
    {
        _server.End(_stranger);
        for (var round = 0; Array.Exists(_pools, IsBusy); round++)
        {
            Assert.True(round < 10_000, "somebody waits for ever");
            foreach (var pool in _pools)
            {
                Converse(pool, mayFail: false);
                Check();
                while (pool.Held.Count > 0)
                {
                    pool.Release(0);
                    Check();
                }
            }

            Pass(TimeSpan.FromMilliseconds(20));
        }

        for (var round = 0; round < 40; round++)
        {
            Pass(TimeSpan.FromMilliseconds(100));
            Array.ForEach(_pools, pool => Converse(pool, mayFail: false));
        }

        Array.ForEach(_pools, pool => pool.CheckEmpty());
        Assert.Equal(0, _server.Count);
    }

    private static bool IsBusy(ModelPool pool) =>
        pool.Waiting.Count > 0 || pool.Held.Count > 0 || pool.UnderWay is not null || !pool.Queue.Outbox.IsEmpty;

    private LockKey Key() => _random.Next(4) == 0
        ? LockKey.All(Enumerable.Range(1, Keys).Where(_ => _random.Next(2) == 0).Append(1 + _random.Next(Keys)).Select(key => (LockKey)key))
        : 1 + _random.Next(Keys);

    private TimeSpan Timeout() => _random.Next(3) switch
    {
        0 => System.Threading.Timeout.InfiniteTimeSpan,
        1 => TimeSpan.Zero,
        _ => TimeSpan.FromTicks(1 + _random.Next(10_000_000)),
    };
}
