using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>One acquire of a lease: the lease is asked for until it is granted, or until the time is over.</summary>
internal abstract class LeaseAsking(LockKey key, LockOptions options)
{
    private static readonly TimeSpan ShortestPoll = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LongestPoll = TimeSpan.FromMilliseconds(250);

    // How often it is asked for what was given too late to be trusted.
    private const int Attempts = 3;

    public LockKey Key => key;

    public LockOptions Options => options;

    /// <summary>Gets the random id by which the rows tell this acquire from every other.</summary>
    public string Owner { get; } = Leasing.NewOwner();

    public long LeastToken { get; private set; }

    /// <summary>Gets or sets whether something may have been given that nobody has.</summary>
    public bool IsInDoubt { get; set; }

    /// <summary>Gets the place in line of this process; null for none. What comes free here wakes its first.</summary>
    public LeaseLine.Place? Place { get; init; }

    /// <summary>Gets whether a question that was not answered is asked once more over another connection.</summary>
    protected virtual bool MayAskAgain => false;

    protected abstract LeaseTable Table { get; }

    /// <summary>Gets the name of the database; null before the first answer.</summary>
    protected abstract string? Database { get; }

    /// <summary>Gets the dialect; null before the first connection.</summary>
    protected abstract LockDialect? Dialect { get; }

    /// <summary>Asks until the lease is granted or the time is over.</summary>
    /// <returns>Null when it was held elsewhere for the whole timeout.</returns>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<LeaseHold?> AskUntilOver(TimeSpan timeout, Limit limit, bool async)
    {
        var start = Stopwatch.GetTimestamp();
        var (wasAnswered, mayAskAgain, hasMadeSlots) = (false, MayAskAgain, false);
        while (true)
        {
            var wasInDoubt = IsInDoubt;
            var answer = await AskToAcquire(limit, async).ConfigureAwait(false);
            IsInDoubt = answer.IsUnsent ? wasInDoubt : IsInDoubt;
            if (answer.Reply is { } reply && await Judge(answer, reply, limit, async).ConfigureAwait(false) is { } hold)
            {
                return hold;
            }

            Check(answer);
            if (answer is { IsUnknown: true, IsUnsent: false } && mayAskAgain && Stopwatch.GetElapsedTime(start) < TrustWindow.Beat)
            {
                // The pool has given out a session that had ended while it was idle. What was given already is ours by the owner's id.
                mayAskAgain = false;
                continue;
            }

            if (!hasMadeSlots && answer.Reply?.Slots < key.SlotCount)
            {
                hasMadeSlots = true;
                var made = await Ask(
                    (leases, table) => leases.MakeSlots(table, Leasing.AllRows(leases, key, options, "")), limit, async)
                    .ConfigureAwait(false);
                Check(made);
                continue;
            }

            wasAnswered |= answer.Error is null || answer.IsNotNow;
            var mayGoOn = timeout != TimeSpan.Zero && wasAnswered;
            if (!mayGoOn || limit is { Timeout.Ticks: > 0, LeftToWait.Ticks: 0 })
            {
                limit.Token.ThrowIfCancellationRequested();
                return answer.Error is null || answer.IsNotNow ? null
                    : answer.IsUnsent && IsInDoubt ? throw LeaseRefusals.Unknown(key, answer.Error)
                    : throw Refusal(answer);
            }

            Place?.HasMissed = true;
            await Pause(Poll(start), limit, async, Place?.First).ConfigureAwait(false);
        }
    }

    /// <summary>Returns how long to wait before the next question, after waiting since a time.</summary>
    public static TimeSpan Poll(long since)
    {
        // What has waited for long is asked for less often, and not by all processes at the same moments.
        var poll = Stopwatch.GetElapsedTime(since) / 8;
        poll = poll < ShortestPoll ? ShortestPoll : poll > LongestPoll ? LongestPoll : poll;
        return poll * (0.75 + (Random.Shared.NextDouble() / 2));
    }

    /// <summary>Waits for a moment, and not beyond the limit.</summary>
    /// <param name="pause">How long.</param>
    /// <param name="limit">The limit.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <param name="bell">Ends the wait when it is released; null for nothing.</param>
    public static async ValueTask Pause(TimeSpan pause, Limit limit, bool async, SemaphoreSlim? bell = null)
    {
        pause = limit.Timeout > TimeSpan.Zero && limit.LeftToWait < pause ? limit.LeftToWait : pause;
        using var never = bell is null ? new SemaphoreSlim(0) : null;
        if (async)
        {
            await (bell ?? never)!.WaitAsync(pause, limit.Token).ConfigureAwait(false);
        }
        else
        {
            (bell ?? never)!.Wait(pause, CancellationToken.None);
        }
    }

    /// <summary>Sends a statement. Errors are a part of the answer.</summary>
    protected abstract ValueTask<LeaseAnswer> Ask(Func<LeaseDialect, LeaseTable, LockStatement> say, Limit limit, bool async);

    private ValueTask<LeaseAnswer> AskToAcquire(Limit limit, bool async)
    {
        IsInDoubt = true;
        return Ask(Say, limit, async);
    }

    private LockStatement Say(LeaseDialect leases, LeaseTable table)
    {
        var rows = Leasing.Rows(leases, key, options, Owner, key.SlotCount, LeastToken);
        return key.SlotCount == 0 ? leases.Acquire(table, rows, allOrNone: key.IsSeveral)
            : leases.HasSlots(table) ? leases.AcquireSlot(table, rows[0])
            : throw LeaseRefusals.NoSlots();
    }

    // An answer that comes after the caller's cancel is no grant.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<LeaseHold?> Judge(LeaseAnswer answer, LeaseReply reply, Limit limit, bool async)
    {
        for (var late = 0; ;)
        {
            var mine = reply.Rows.Where(row => row.Owner == Owner).ToList();
            limit.Token.ThrowIfCancellationRequested();
            var dialect = Dialect!;
            var rows = Leasing.Rows(Leasing.Of(dialect), key, options, Owner, mine is [var one] ? one.Slot : 0);
            if (mine.Count < rows.Length)
            {
                // The server has answered that nothing of it is ours.
                IsInDoubt = mine.Count > 0;
                return null;
            }

            var (least, most) = (mine.Min(row => row.Token), mine.Max(row => row.Token));
            var hold = new LeaseHold(key, options, rows, most, answer.Asked, (Database, dialect));
            if (least == most)
            {
                if (hold.IsInTime(Stopwatch.GetTimestamp()) || ++late == Attempts)
                {
                    return hold.IsInTime(Stopwatch.GetTimestamp()) ? hold : null;
                }

                // It came too late to be trusted, and nobody else has it: it is asked for again, under the same id.
            }
            else
            {
                // A token of one of the rows is ahead of the clock. All must have one that is larger, because the next one of each row
                // grows from its own.
                LeastToken = most + 1;
            }

            answer = await AskToAcquire(limit, async).ConfigureAwait(false);
            if (answer.Reply is null)
            {
                return null;
            }

            reply = answer.Reply;
        }
    }

    private void Check(LeaseAnswer answer)
    {
        IsInDoubt = answer.IsUnsent ? IsInDoubt : answer.IsUnknown || (IsInDoubt && answer.Error is null);
        if (answer is { Error: not null, Trouble: LeaseTrouble.NoTable or LeaseTrouble.NoRight or LeaseTrouble.Refused })
        {
            throw Refusal(answer);
        }
    }

    private Exception Refusal(LeaseAnswer answer) =>
        LeaseRefusals.Of(key, answer, Table, Dialect is { } dialect ? Table.Ddl(dialect) : "");
}
