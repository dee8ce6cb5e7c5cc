using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>The leases that this process has and wants from one data source, in one table.</summary>
internal sealed class LeaseSource
{
    private static readonly ConditionalWeakTable<DbDataSource, Dictionary<object, LeaseSource>> Sources = [];

    private static readonly TimeSpan ShortestPoll = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LongestPoll = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(10);

    private readonly LeaseServer _server;
    private readonly LeaseRenewer _renewer;
    private readonly LeaseRounds _rounds;
    private readonly LeaseLine _line = new();

    private LeaseSource(LeaseServer server) =>
        (_server, _renewer, _rounds) = (server, new LeaseRenewer(server), new LeaseRounds(server));

    /// <summary>Gets the database and the dialect, as far as they are known.</summary>
    public (string? Database, LockDialect? Dialect) Where => (_server.Database, _server.Dialect);

    /// <inheritdoc cref="LeaseRenewer.State"/>
    public (int Held, int Late) State => _renewer.State;

    /// <summary>Returns the leases of a data source: the same ones for every caller.</summary>
    public static LeaseSource Of(DbDataSource dataSource, LockInterface? lockInterface, LockOptions options)
    {
        var sources = Sources.GetOrCreateValue(dataSource);
        var which = (options.LeaseTable, lockInterface, options.Dialect);
        lock (sources)
        {
            return sources.TryGetValue(which, out var source)
                ? source
                : sources[which] = new(new LeaseServer(dataSource, lockInterface, options.Dialect, options.LeaseTable));
        }
    }

    /// <summary>Acquires a lease.</summary>
    /// <returns>Null when it was held elsewhere for the whole timeout.</returns>
    public async ValueTask<LeaseHold?> Acquire(
        LockKey key, LockOptions options, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var limit = Limit.Of(timeout, cancellationToken);
        var place = _line.Enter(key);
        var asking = new Asking(key, options, Leasing.NewOwner());
        var hold = default(LeaseHold);
        try
        {
            if (!place.IsFirst && (timeout == TimeSpan.Zero || !await WaitUntilFirst(place, limit, async).ConfigureAwait(false)))
            {
                return null;
            }

            if (place.Pauses)
            {
                await Pause(Moment, limit, async).ConfigureAwait(false);
            }

            hold = await AskUntilOver(asking, timeout, limit, async).ConfigureAwait(false);
            if (hold is not null)
            {
                place.TurnBegan = place.TurnBegan == 0 ? Stopwatch.GetTimestamp() : place.TurnBegan;
                hold.WhenLost = () =>
                {
                    _renewer.Remove(hold);
                    _line.Leave(place);
                };
                hold.WhenReleased = () => _line.Leave(place);
                _renewer.Add(hold);
                Log.Acquired(QuietLogger.Of(options.Logger), key);
            }

            return hold;
        }
        catch (OperationCanceledException e) when (cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(key, e, cancellationToken);
        }
        finally
        {
            if (hold is null)
            {
                _line.Leave(place);
                if (asking.IsInDoubt)
                {
                    LetGo(asking);
                }
            }
        }
    }

    /// <summary>Lets go of a lease.</summary>
    /// <param name="hold">The lease.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <returns>False when it had been released before.</returns>
    /// <exception cref="LockLostException">It was lost before.</exception>
    public async ValueTask<bool> Release(LeaseHold hold, bool async)
    {
        if (!hold.IsHeld(Stopwatch.GetTimestamp()) || !hold.Release())
        {
            return hold.TakeLoss() ? throw LeaseRefusals.Lost(hold.Key, null) : false;
        }

        _renewer.Remove(hold);
        try
        {
            // The lease was trusted until now, so that nobody else had it. If the server cannot be told at once, that is done later.
            var answer = await _server.Ask(
                (leases, table) => leases.Release(table, hold.Rows), hold.Key, hold.Options, Limit.Of(Limit.Way, CancellationToken.None),
                async).ConfigureAwait(false);
            if (answer.Reply is not { } reply)
            {
                _renewer.LetGo(hold.Key, hold.Options, hold.Owner, hold.Rows[0].Slot);
            }
            else if (reply.Rows.Count != hold.Rows.Length)
            {
                hold.LoseAtRelease();
                hold.TakeLoss();
                throw LeaseRefusals.Lost(hold.Key, null);
            }

            Log.Released(QuietLogger.Of(hold.Options.Logger), hold.Key);
            return true;
        }
        finally
        {
            hold.WhenReleased?.Invoke();
        }
    }

    /// <summary>Lets go of a lease that nobody references any more, without waiting.</summary>
    public void Abandon(LeaseHold hold)
    {
        if (hold.Release())
        {
            _renewer.Remove(hold);
            _renewer.LetGo(hold.Key, hold.Options, hold.Owner, hold.Rows[0].Slot);
            hold.WhenReleased?.Invoke();
            Log.LeaseAbandoned(QuietLogger.Of(hold.Options.Logger), hold.Key);
        }
    }

    /// <summary>Returns the exception for a timeout. It says who holds the lease, if that can be learned.</summary>
    public async ValueTask<LockNotAcquiredException> NotAcquired(LockKey key, LockOptions options, TimeSpan timeout, bool async)
    {
        var holders = default(LockHolders);
        try
        {
            var answer = await _server.Ask(
                (leases, table) => leases.Look(table, Leasing.Rows(leases, key, options, "")), key, options,
                Limit.Of(Limit.Way, CancellationToken.None), async).ConfigureAwait(false);
            holders = answer.Error is null ? LeaseHolders.Read(key, answer.Value) : null;
        }
        catch (Exception)
        {
            // The message does without the holder.
        }

        return LockNotAcquiredException.Within(timeout, key, "", null, holders, "TryAcquireLock to go on without it");
    }

    private async ValueTask<LeaseHold?> AskUntilOver(Asking asking, TimeSpan timeout, Limit limit, bool async)
    {
        var start = Stopwatch.GetTimestamp();
        var (wasAnswered, mayAskAgain) = (false, true);
        while (true)
        {
            var wasInDoubt = asking.IsInDoubt;
            var answer = await Ask(asking, limit, async).ConfigureAwait(false);
            asking.IsInDoubt = answer.IsUnsent ? wasInDoubt : asking.IsInDoubt;
            if (answer.Reply is { } reply && await Judge(asking, answer, reply, limit, async).ConfigureAwait(false) is { } hold)
            {
                return hold;
            }

            Check(asking, answer);
            if (answer is { IsUnknown: true, IsUnsent: false } && mayAskAgain && Stopwatch.GetElapsedTime(start) < TrustWindow.Beat)
            {
                // The pool has given out a session that had ended while it was idle. What was given already is ours by the owner's id.
                mayAskAgain = false;
                continue;
            }

            wasAnswered |= answer.Error is null || answer.IsNotNow;
            var mayGoOn = timeout != TimeSpan.Zero && wasAnswered;
            if (!mayGoOn || limit is { Timeout.Ticks: > 0, LeftToWait.Ticks: 0 })
            {
                return answer.Error is null || answer.IsNotNow ? null
                    : answer.IsUnsent && !asking.IsInDoubt ? throw LeaseRefusals.NotConnected(asking.Key, answer.Error)
                    : answer.IsUnknown ? throw LeaseRefusals.Unknown(asking.Key, answer.Error)
                    : throw LeaseRefusals.NoWrites(asking.Key, answer.Error);
            }

            // What has waited for long is asked for less often, and not by all processes at the same moments.
            var poll = Stopwatch.GetElapsedTime(start) / 8;
            poll = poll < ShortestPoll ? ShortestPoll : poll > LongestPoll ? LongestPoll : poll;
            poll *= 0.75 + (Random.Shared.NextDouble() / 2);
            await Pause(poll, limit, async).ConfigureAwait(false);
        }
    }

    private async ValueTask<LeaseAnswer> Ask(Asking asking, Limit limit, bool async)
    {
        var (key, options, owner) = asking;
        asking.IsInDoubt = true;
        if (!async || key.IsSeveral)
        {
            return await _server.Ask(
                (leases, table) => leases.Acquire(
                    table, Leasing.Rows(leases, key, options, owner, leastToken: asking.LeastToken), allOrNone: key.IsSeveral),
                key, options, limit, async).ConfigureAwait(false);
        }

        asking.Round = _rounds.Ask(key, options, owner);
        try
        {
            return await asking.Round.WaitAsync(limit.LeftToAnswer, limit.Token).ConfigureAwait(false);
        }
        catch (TimeoutException e)
        {
            return new(null, Stopwatch.GetTimestamp(), e, LeaseTrouble.Unknown);
        }
    }

    // An answer that comes after the caller's cancel is no grant.
    private async ValueTask<LeaseHold?> Judge(Asking asking, LeaseAnswer answer, LeaseReply reply, Limit limit, bool async)
    {
        var (key, options, owner) = asking;
        while (true)
        {
            var mine = reply.Rows.Where(row => row.Owner == owner).ToList();
            limit.Token.ThrowIfCancellationRequested();
            var dialect = _server.Dialect!;
            var rows = Leasing.Rows(Leasing.Of(dialect), key, options, owner);
            if (mine.Count < rows.Length)
            {
                // The server has answered that nothing of it is ours.
                asking.IsInDoubt = mine.Count > 0;
                return null;
            }

            var (least, most) = (mine.Min(row => row.Token), mine.Max(row => row.Token));
            var hold = new LeaseHold(key, options, rows, most, answer.Asked, (_server.Database, dialect));
            if (least == most)
            {
                return hold.IsHeld(Stopwatch.GetTimestamp()) ? hold : null;
            }

            // A token of one of the rows is ahead of the clock. All must have one that is larger, because the next one of each row grows
            // from its own.
            asking.LeastToken = most + 1;
            answer = await Ask(asking, limit, async).ConfigureAwait(false);
            if (answer.Reply is null)
            {
                return null;
            }

            reply = answer.Reply;
        }
    }

    private void Check(Asking asking, LeaseAnswer answer)
    {
        asking.IsInDoubt = answer.IsUnsent ? asking.IsInDoubt : answer.IsUnknown || (asking.IsInDoubt && answer.Error is null);
        switch (answer)
        {
            case { Error: { } error, Trouble: LeaseTrouble.NoTable }:
                throw LeaseRefusals.NoTable(_server.Table, _server.Table.Ddl(_server.Dialect!), error);
            case { Error: { } error, Trouble: LeaseTrouble.NoRight }:
                throw LeaseRefusals.NoRight(_server.Table, _server.Table.Ddl(_server.Dialect!), error);
            case { Error: { } error, Trouble: LeaseTrouble.Refused }:
                throw LeaseRefusals.Refused(asking.Key, error);
            default:
                return;
        }
    }

    // Nobody has run under what is let go of here, so that it is free for the next one at once.
    private void LetGo(Asking asking)
    {
        var options = asking.Options with { AtLeast = TimeSpan.Zero };

        // A statement that is under way may be granted after it was let go of, so it is let go of when the answer has come.
        if (asking.Round is { IsCompleted: false } round)
        {
            _ = round.ContinueWith(
                _ => _renewer.LetGo(asking.Key, options, asking.Owner, 0), CancellationToken.None,
                TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
        else
        {
            _renewer.LetGo(asking.Key, options, asking.Owner, 0);
        }
    }

    /// <returns>False when the limit came first.</returns>
    private static async ValueTask<bool> WaitUntilFirst(LeaseLine.Place place, Limit limit, bool async)
    {
        var left = limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : Timeout.InfiniteTimeSpan;
        return async
            ? await place.First.WaitAsync(left, limit.Token).ConfigureAwait(false) : place.First.Wait(left, CancellationToken.None);
    }

    private static async ValueTask Pause(TimeSpan pause, Limit limit, bool async)
    {
        pause = limit.Timeout > TimeSpan.Zero && limit.LeftToWait < pause ? limit.LeftToWait : pause;
        if (async)
        {
            await Task.Delay(pause, limit.Token).ConfigureAwait(false);
        }
        else
        {
            using var never = new SemaphoreSlim(0);
            never.Wait(pause, CancellationToken.None);
        }
    }

    private sealed record Asking(LockKey Key, LockOptions Options, string Owner)
    {
        public long LeastToken { get; set; }

        /// <summary>Gets or sets whether something may have been given that nobody has.</summary>
        public bool IsInDoubt { get; set; }

        public Task<LeaseAnswer>? Round { get; set; }
    }
}
