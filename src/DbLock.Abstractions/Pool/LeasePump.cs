using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>
/// The conversation of a pool with the server when its locks are leases. It keeps no connection: each statement borrows one. It sends one
/// round after another; what is asked for during a round goes into the next one.
/// </summary>
internal sealed class LeasePump : IPoolPump
{
    // How often in a row a request is asked for that the server could not be asked for, before it waits for the server, or is told.
    private const int Attempts = 3;
    private const int MostPerStatement = 500;

    // How long the tasks of a pool wait for one answer. What is not known then is asked for over another connection.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan ShortestRetry = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestRetry = TimeSpan.FromSeconds(1);

    private readonly LeaseServer _server;
    private readonly LeaseRenewer _renewer;
    private readonly LockOptions _options;
    private readonly IPoolOwner _owner;
    private readonly PoolQueue _queue;
    private readonly PoolAnswers _answers;
    private readonly PoolLosses _losses;
    private readonly PoolReports _reports;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private PoolRound? _round;
    private bool _isBusy;
    private bool _isEnding;
    private long _answeredAt;

    public LeasePump(
        DbDataSource dataSource, LockInterface? lockInterface, LockOptions options, IPoolOwner owner, PoolQueue queue, PoolAnswers answers,
        PoolLosses losses, PoolReports reports)
    {
        _server = new LeaseServer(dataSource, lockInterface, options.Dialect, options.LeaseTable);
        (_renewer, _options, _owner) = (new LeaseRenewer(_server), options, owner);
        (_queue, _answers, _losses, _reports) = (queue, answers, losses, reports);
        (queue.Lines.HandsOver, queue.Outbox.MostPerStatement) = (false, MostPerStatement);
    }

    public (string? Database, LockDialect? Dialect) Where => (_server.Database, _server.Dialect);

    public Carrier? Carrier => null;

    public bool IsMarked => false;

    public void Wake(PoolPromise? caller = null)
    {
        lock (_queue.Gate)
        {
            if (_isBusy || _isEnding)
            {
                return;
            }

            _isBusy = true;
        }

        ThreadPool.UnsafeQueueUserWorkItem(static pump => _ = pump.Converse(), this, preferLocal: false);
    }

    public async Task<IReadOnlyDictionary<LockKey, LockHolders>> AskHolders(
        IReadOnlyCollection<LockKey> keys, CancellationToken cancellationToken)
    {
        var answer = await Look(keys, Limit.Of(TimeSpan.Zero, cancellationToken)).ConfigureAwait(false);
        if (answer.Error is not null)
        {
            return new Dictionary<LockKey, LockHolders>();
        }

        var held = LeaseHolders.ReadAll(answer.Value).ToLookup(static lease => lease.Name);
        return keys.ToDictionary(static key => key, key => LeaseHolders.Of(key, held[Name(key)]));
    }

    public async Task<bool> End(CancellationToken limit)
    {
        lock (_queue.Gate)
        {
            _isEnding = true;
            if (!_isBusy)
            {
                _ended.TrySetResult();
            }
        }

        await _ended.Task.WaitAsync(limit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        List<PoolEntry> held;
        lock (_queue.Gate)
        {
            held = [.. _queue.Lines.Entries.Where(entry => entry.Server is PoolEntry.OnServer.Held or PoolEntry.OnServer.Releasing)];
            held.ForEach(Unrenew);
        }

        // What is not answered within the limit is let go of later.
        return held.Count == 0 || (await Release(held, Limit.Of(Patience, limit)).ConfigureAwait(false)).Count == 0;
    }

    private async Task Converse()
    {
        while (Next() is { } round)
        {
            var start = Stopwatch.GetTimestamp();
            if (round.Released.Count > 0)
            {
                var lost = await Release(round.Released, Limit.Of(Patience, CancellationToken.None)).ConfigureAwait(false);
                _answers.IfOwner(this, null, () =>
                {
                    round.Released.ForEach(entry => _answers.Unlocked(entry, !lost.Contains(entry.Lease!), othersListen: false));
                    return true;
                });
                _owner.Follow();
            }

            var taken = await Take(round.Asks).ConfigureAwait(false);
            _answers.IfOwner(this, round, () =>
            {
                _answers.Took = Stopwatch.GetElapsedTime(start).Ticks;
                taken.ForEach(Apply);
                return true;
            });
            _owner.Follow();
        }
    }

    private PoolRound? Next()
    {
        lock (_queue.Gate)
        {
            var round = _round = _round is { IsLarge: false } before ? before : new PoolRound();
            if (_answers.TakeNext(this, round) && round.HasStatement)
            {
                round.Released.ForEach(Unrenew);
                return round;
            }

            _isBusy = false;
            if (_isEnding)
            {
                _ended.TrySetResult();
            }

            return null;
        }
    }

    private void Unrenew(PoolEntry entry)
    {
        if (entry.Lease!.Release())
        {
            _renewer.Remove(entry.Lease);
        }
    }

    /// <returns>
    /// The leases that the server says were lost before. A lease that was trusted until now nobody else had, so that it counts as held if
    /// the server cannot be told at once.
    /// </returns>
    private async ValueTask<HashSet<LeaseHold>> Release(List<PoolEntry> entries, Limit limit)
    {
        var rows = entries.ConvertAll(entry => (Lease: entry.Lease!, Key: entry.ToCarry().Key!));
        try
        {
            var answer = await Ask(
                (leases, table) => leases.Release(
                    table,
                    [
                        .. rows.SelectMany(row => Leasing.Rows(
                                leases, row.Key, row.Lease.WasHeld ? _options : _options with { AtLeast = TimeSpan.Zero }, row.Lease.Owner))
                            .DistinctBy(row => (row.Name, row.Owner)).OrderBy(row => row.Name, StringComparer.Ordinal),
                    ]),
                rows[0].Key,
                limit).ConfigureAwait(false);
            if (answer.Reply is { } reply)
            {
                var released = reply.Rows.CountBy(static row => row.Owner).ToDictionary();
                return
                [
                    .. entries.GroupBy(static entry => entry.Lease!)
                        .Where(lease => released.GetValueOrDefault(lease.Key.Owner) < lease.DistinctBy(static entry => entry.Name).Count())
                        .Select(static lease => lease.Key),
                ];
            }
        }
        catch (Exception)
        {
            // It is done later.
        }

        foreach (var lease in entries.Select(static entry => entry.Lease!).Distinct())
        {
            _renewer.LetGo(lease.Key, lease.Options, lease.Owner, lease.Rows[0].Slot, lease.WasHeld);
        }

        return [];
    }

    private async ValueTask<List<Taken>> Take(List<PoolRequest> asks)
    {
        List<Taken> taken = [];
        asks.ForEach(static request => request.Owner ??= Leasing.NewOwner());

        // One statement takes a row once.
        List<PoolRequest> plain =
            [.. asks.Where(static request => !request.IsSet).DistinctBy(static request => request.Places[0].Entry.Name)];
        if (plain.Count > 0)
        {
            taken.AddRange(await TakePlain(plain).ConfigureAwait(false));
        }

        foreach (var request in asks.Except(plain))
        {
            taken.Add(await TakeAll(request).ConfigureAwait(false));
        }

        return taken;
    }

    private async ValueTask<List<Taken>> TakePlain(List<PoolRequest> plain)
    {
        var answer = await Acquire(plain).ConfigureAwait(false);
        if (answer.Trouble == LeaseTrouble.Refused && plain.Count > 1)
        {
            // One of them may be what the server refuses, and nobody else waits for that.
            var half = plain.Count / 2;
            return [.. await TakePlain(plain[..half]).ConfigureAwait(false), .. await TakePlain(plain[half..]).ConfigureAwait(false)];
        }

        var rows = answer.Reply?.Rows.ToDictionary(static row => row.Owner, static row => row.Token) ?? [];
        return plain.ConvertAll(request => new Taken(
            request, answer, rows.TryGetValue(request.Owner!, out var token) ? Hold(request, token, answer.Asked) : null));
    }

    private async ValueTask<Taken> TakeAll(PoolRequest request)
    {
        var least = 0L;
        while (true)
        {
            var answer = await Acquire([request], least).ConfigureAwait(false);
            if (answer.Reply?.Rows is { } rows
                && rows.Count >= Leasing.Rows(Leasing.Of(_server.Dialect!), request.Key, _options, request.Owner!).Length)
            {
                var most = rows.Max(static row => row.Token);
                if (rows.Any(row => row.Token != most))
                {
                    // All must have one token that is larger than those of all rows, because the next one of each grows from its own.
                    least = most + 1;
                    continue;
                }

                return new(request, answer, Hold(request, most, answer.Asked));
            }

            var lacks = default(PoolEntry);
            if (request.IsSet && (answer.Error is null || answer.IsNotNow))
            {
                var look = await Look(request.Key.Keys, Limit.Of(Patience, CancellationToken.None)).ConfigureAwait(false);
                HashSet<string> held =
                    look.Error is null ? [.. LeaseHolders.ReadAll(look.Value).Select(static lease => lease.Name)] : [];
                lacks = Array.Find(request.Places, place => held.Contains(Name(place.Entry.ToCarry().Key!)))?.Entry;
            }

            return new(request, answer, null) { Lacks = lacks };
        }
    }

    private ValueTask<LeaseAnswer> Acquire(List<PoolRequest> requests, long leastToken = 0) => Ask(
        (leases, table) => leases.Acquire(
            table,
            [
                .. requests.SelectMany(request => Leasing.Rows(leases, request.Key, _options, request.Owner!, leastToken: leastToken))
                    .OrderBy(static row => row.Name, StringComparer.Ordinal),
            ],
            allOrNone: requests[0].IsSet),
        requests[0].Key,
        Limit.Of(Patience, CancellationToken.None));

    private ValueTask<LeaseAnswer> Look(IEnumerable<LockKey> keys, Limit limit) => Ask(
        (leases, table) => leases.Look(table, [.. keys.Select(key => new LeaseRow(leases.Name(key), ""))]), keys.First(), limit);

    private async ValueTask<LeaseAnswer> Ask(Func<LeaseDialect, LeaseTable, LockStatement> say, LockKey key, Limit limit)
    {
        try
        {
            return await _server.Ask(say, key, _options, limit, async: true).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            // The answer cannot be read, or the server has no leases.
            return new(null, Stopwatch.GetTimestamp(), e, e is OperationCanceledException ? LeaseTrouble.Unknown : LeaseTrouble.Refused);
        }
    }

    private string Name(LockKey key) => Leasing.Of(_server.Dialect!).Name(key);

    // An answer that came too late to be trusted is no grant. It is asked for again, under the same id.
    private LeaseHold? Hold(PoolRequest request, long token, long asked)
    {
        var rows = Leasing.Rows(Leasing.Of(_server.Dialect!), request.Key, _options, request.Owner!);
        var hold = new LeaseHold(request.Key, _options, rows, token, asked, (_server.Database, _server.Dialect!))
        {
            IsToldElsewhere = true,
        };
        return hold.IsInTime(Stopwatch.GetTimestamp()) ? hold : null;
    }

    // Runs under the queue's lock.
    private void Apply(Taken taken)
    {
        var (request, answer, hold) = taken;
        var isLate = hold is null && answer.Reply?.Rows.Any(row => row.Owner == request.Owner) == true;
        var isAnswered = !isLate && (answer.Error is null || answer.IsNotNow);
        var owner = request.Owner!;
        request.Owner = isLate ? owner : null;
        if (isAnswered)
        {
            (_queue.Trouble, _answeredAt) = (null, _queue.Lines.Now);
        }

        if (hold is not null)
        {
            hold.WasHeld = !request.IsEnded;
            Begin(hold, [.. request.Places.Select(static place => place.Entry)]);
            _answers.Granted(request, hold.Token);
            return;
        }

        if (isAnswered)
        {
            _answers.Refused(request, taken.Lacks ?? request.Places[0].Entry);
            return;
        }

        answer = isLate ? new(null, answer.Asked, new TimeoutException("The answer came too late to be trusted.")) : answer;
        AskAgain(request, answer);
        if (!answer.IsUnsent && (!isLate || request.State == PoolRequest.StateOf.Over))
        {
            // Nobody has run under it, so that it is free for the next one at once.
            _renewer.LetGo(request.Key, _options, owner, slot: 0, wasHeld: false);
        }
    }

    // Runs under the queue's lock.
    private void AskAgain(PoolRequest request, LeaseAnswer answer)
    {
        _queue.Trouble = answer.Error;
        _queue.Lines.Unask(request);
        var isFinal = !answer.IsUnknown && answer.Trouble != LeaseTrouble.NoWrites;
        var wasThere = !request.IsTry && request.Start < _answeredAt;
        if (request.IsEnded || request.IsCancelled || isFinal || request.Failures + 1 < Attempts || !wasThere)
        {
            var error = LeaseRefusals.Of(request.Key, answer, _server.Table, _server.Ddl);
            _answers.AskAgainOrFail(request, new PoolFailure(error, isFinal || request.Failures + 1 >= Attempts));
            return;
        }

        // It waited before the server went, and goes on waiting until its own time is over.
        request.Failures++;
        var retry = Math.Min(LongestRetry.Ticks, ShortestRetry.Ticks << Math.Min(10, request.Failures - Attempts));
        _queue.Lines.PutAside(request, _queue.Lines.Now + retry, lacks: null);
        _reports.Unconnected(answer.Error!);
    }

    // It knows nothing of the request, whose result must be forgotten when its caller has forgotten it.
    private void Begin(LeaseHold lease, HashSet<PoolEntry> entries)
    {
        foreach (var entry in entries)
        {
            entry.Lease = lease;
        }

        lease.WhenLost = () => Lose(lease, entries);
        if (lease.WasHeld)
        {
            _renewer.Add(lease);
        }
    }

    private void Lose(LeaseHold lease, HashSet<PoolEntry> entries)
    {
        _renewer.Remove(lease);
        _reports.Lost(_losses.Lose(this, [.. entries.Where(entry => entry.Lease == lease)]), Where);
        _owner.Follow();
    }

    /// <summary>What came of a request.</summary>
    private sealed record Taken(PoolRequest Request, LeaseAnswer Answer, LeaseHold? Hold)
    {
        /// <summary>Gets the key of a set that another has; null where that is not known.</summary>
        public PoolEntry? Lacks { get; init; }
    }
}
