using System.Data.Common;
using System.Diagnostics;

namespace DbLock.Specification;

/// <content>A timeout and a cancel against the grant: the server is asked who holds the lock.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false, false), InlineData(true, false), InlineData(true, true)]
    public async Task A_timeout_that_meets_the_grant_is_reported_as_the_server_has_it(bool async, bool several)
    {
        var timeout = Server.BriefWait;
        await RaceAsync(async, several, waiter => waiter.Acquire(async, timeout), timeout);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_cancel_that_meets_the_grant_is_reported_as_the_server_has_it(bool several)
    {
        // The first slice of a wait that cannot be cancelled in the server ends after 200 ms.
        var delay = TimeSpan.FromMilliseconds(Interface.Driver.CanCancel(await OpenAsync()) ? 3 : 198);
        await RaceAsync(async: true, several, Cancelled(delay), delay);
    }

    /// <summary>Acquires until it is cancelled.</summary>
    protected static Func<Lock, Task<bool>> Cancelled(TimeSpan after) => async waiter =>
    {
        using var cancel = new CancellationTokenSource(after);
        try
        {
            return await waiter.AcquireAsync(cancel.Token);
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    };

    // The holder lets go at the very moment at which the wait ends for another reason: the moment is moved after every round towards the
    // other outcome, so that both happen again and again. After each one the server is asked who holds the lock.
    protected async Task RaceAsync(
        bool async, bool several, Func<Lock, Task<bool>> acquire, TimeSpan after, LockScope? inTransaction = null)
    {
        if (several && !Server.HasSeveral)
        {
            return;
        }

        var (first, second) = (await OpenAsync(), await OpenAsync());
        LockKey[] keys = several ? [Key, Key.Name + ":a", Key.Name + ":b", Key.Name + ":c"] : [Key];
        var holder = NewLock(first);
        var session = await Server.SessionIdAsync(second);
        var (granted, aborted, unanswered, step) = (0, 0, 0, TimeSpan.FromTicks(Math.Min((after / 4).Ticks, TimeSpan.TicksPerMillisecond)));
        var races = after < TimeSpan.FromMilliseconds(100) ? Races / (inTransaction is null ? 1 : 4) : 40;
        for (var round = 0; round < races; round++)
        {
            Assert.True(await holder.Try(async));
            await using var transaction = inTransaction is null ? null : await second.BeginTransactionAsync();
            var waiter = NewLock(second, new LockOptions { Scope = inTransaction ?? LockScope.Session }, LockKey.All(keys));
            waiter.Transaction = transaction;
            var waiting = Task.Factory.StartNew(
                () => acquire(waiter), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap();
            for (var clock = Stopwatch.StartNew(); clock.Elapsed < after;)
            {
                // A sleep ends up to two milliseconds late.
                if (after - clock.Elapsed > TimeSpan.FromMilliseconds(3))
                {
                    await Task.Delay(1);
                }
                else
                {
                    Thread.SpinWait(20);
                }
            }

            Assert.True(await holder.Release(async));
            bool acquired;
            try
            {
                acquired = await waiting;
            }
            catch (LockException e) when (e.IsLate() && inTransaction is null)
            {
                // A machine that does much else has not answered in time, which was said, and the connection was given up.
                unanswered++;
                foreach (var key in keys)
                {
                    await Server.UntilFreeAsync(key);
                }

                second = await OpenAsync();
                session = await Server.SessionIdAsync(second);
                continue;
            }

            Assert.Equal(acquired, waiter.IsHeld);
            foreach (var key in keys)
            {
                Assert.Equal(acquired, await Server.IsHeldByAsync(session, key));
            }

            Assert.Equal(acquired && inTransaction != LockScope.Transaction, await waiter.Release(async));
            if (transaction is not null)
            {
                try
                {
                    // It is as usable as before.
                    await ExecuteAsync(second, "select 1", transaction);
                    await transaction.CommitAsync();
                }
                catch (DbException e) when (!acquired && Server.Dialect.Read(Interface.Driver.Read(e)) == LockOutcome.TransactionAborted)
                {
                    // A cancel that came before the savepoint, in the instant in which the statement began.
                    aborted++;
                    await transaction.RollbackAsync();
                }
            }

            foreach (var key in keys)
            {
                Assert.False(await Server.IsHeldAsync(key));
            }

            granted += acquired ? 1 : 0;
            after += acquired ? step : -step;
            after = after < TimeSpan.Zero ? TimeSpan.Zero : after;
            step = step > TimeSpan.FromMicroseconds(100) ? step * 0.9 : step;
        }

        Assert.InRange(granted, 1, races - 1);
        Assert.InRange(aborted, 0, races / 20);
        Assert.InRange(unanswered, 0, races / 20);
        Assert.Equal(session, await Server.SessionIdAsync(second));
    }
}
