using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>The leases that this process has and wants from one data source, in one table.</summary>
internal sealed class LeaseSource
{
    private static readonly ConditionalWeakTable<DbDataSource, Dictionary<object, LeaseSource>> Sources = [];

    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(10);

    private readonly LeaseServer _server;
    private readonly LeaseRenewer _renewer;
    private readonly LeaseRounds _acquires;
    private readonly LeaseRounds _releases;
    private readonly LeaseLine _line = new();

    private LeaseSource(LeaseServer server)
    {
        (_server, _renewer) = (server, new LeaseRenewer(server));
        _acquires = new(server, static (leases, table, rows) => leases.Acquire(table, rows, allOrNone: false), TrustWindow.Length);
        _releases = new(server, static (leases, table, rows) => leases.Release(table, rows), Limit.Way);
    }

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
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<LeaseHold?> Acquire(
        LockKey key, LockOptions options, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var limit = Limit.Of(timeout, cancellationToken);
        if (key.SlotCount > 0 && timeout == TimeSpan.Zero && _line.IsWaitedFor(key))
        {
            return null;
        }

        // A try of one of several slots does not wait for those who ask, because there may be enough for all.
        var isInLine = key.SlotCount == 0 || timeout != TimeSpan.Zero;
        var place = isInLine ? _line.Enter(key) : new LeaseLine.Place([]) { IsFirst = true, HasLeft = true };
        var asking = new Asking(this, key, options) { Place = key.SlotCount > 0 ? place : null };
        var hold = default(LeaseHold);
        try
        {
            if (!place.IsFirst && (timeout == TimeSpan.Zero || !await place.WaitUntilFirst(limit, async).ConfigureAwait(false)))
            {
                return null;
            }

            if (place.Pauses)
            {
                await LeaseAsking.Pause(Moment, limit, async).ConfigureAwait(false);
            }

            hold = await asking.AskUntilOver(timeout, limit, async).ConfigureAwait(false);
            if (hold is not null)
            {
                place.TurnBegan = place.TurnBegan == 0 ? Stopwatch.GetTimestamp() : place.TurnBegan;
                hold.WhenReleased = () => LeaveOrWake(place, key);
                hold.WhenLost = () =>
                {
                    _renewer.Remove(hold);
                    LeaveOrWake(place, key);
                };
                _renewer.Add(hold);
                if (key.SlotCount > 0)
                {
                    _line.Leave(place);
                }

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
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
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
            var answer = async && hold.Rows is [var row]
                ? await _releases.Ask(hold.Key, hold.Options, row.Owner, row.Slot).ConfigureAwait(false)
                : await _server.Ask(
                    (leases, table) => leases.Release(table, hold.Rows), hold.Key, hold.Options,
                    Limit.Of(Limit.Way, CancellationToken.None), async).ConfigureAwait(false);
            if (answer.Reply is not { } reply)
            {
                _renewer.LetGo(hold.Key, hold.Options, hold.Owner, hold.Rows[0].Slot, wasHeld: true);
            }
            else if (reply.Rows.Count(row => row.Owner == hold.Owner) != hold.Rows.Length)
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
            _renewer.LetGo(hold.Key, hold.Options, hold.Owner, hold.Rows[0].Slot, wasHeld: true);
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

    // Nobody has run under what is let go of here, so that it is free for the next one at once.
    private void LetGo(Asking asking)
    {
        // A statement that is under way may be granted after it was let go of, so it is let go of when the answer has come.
        if (asking.Round is { IsCompleted: false } round)
        {
            _ = round.ContinueWith(
                _ => _renewer.LetGo(asking.Key, asking.Options, asking.Owner, 0, wasHeld: false), CancellationToken.None,
                TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
        else
        {
            _renewer.LetGo(asking.Key, asking.Options, asking.Owner, 0, wasHeld: false);
        }
    }

    // Who holds a slot has left the line, so that the next one could ask for another.
    private void LeaveOrWake(LeaseLine.Place place, LockKey key)
    {
        if (key.SlotCount > 0)
        {
            _line.Wake(key);
        }
        else
        {
            _line.Leave(place);
        }
    }

    private sealed class Asking(LeaseSource source, LockKey key, LockOptions options) : LeaseAsking(key, options)
    {
        /// <summary>Gets the statement that is under way for this and other acquires; null for one of its own.</summary>
        public Task<LeaseAnswer>? Round { get; private set; }

        protected override bool MayAskAgain => true;

        protected override LeaseTable Table => source._server.Table;

        protected override string? Database => source._server.Database;

        protected override LockDialect? Dialect => source._server.Dialect;

        protected override async ValueTask<LeaseAnswer> Ask(
            Func<LeaseDialect, LeaseTable, LockStatement> say, Limit limit, bool async)
        {
            if (!async || Key.IsSeveral || Key.SlotCount > 0)
            {
                return await source._server.Ask(say, Key, Options, limit, async).ConfigureAwait(false);
            }

            Round = source._acquires.Ask(Key, Options, Owner);
            try
            {
                return await Round.WaitAsync(limit.LeftToAnswer, limit.Token).ConfigureAwait(false);
            }
            catch (TimeoutException e)
            {
                return new(null, Stopwatch.GetTimestamp(), e, LeaseTrouble.Unknown);
            }
        }
    }
}
