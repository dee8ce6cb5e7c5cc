using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using System.Transactions;

namespace DbLock.ServerTests;

/// <summary>What every driver does on every server, synchronously and asynchronously. A driver and a server join with a class of their own below.</summary>
public abstract class LockContract(TestServer server, LockInterface lockInterface) : IAsyncDisposable
{
    private readonly List<DbConnection> _opened = [];

    protected static TimeSpan ShortWait => TimeSpan.FromMilliseconds(150);

    protected TestServer Server { get; } = server;

    protected LockInterface Interface { get; } = lockInterface;

    /// <summary>Gets whether a failed statement leaves a transaction that takes nothing but its rollback.</summary>
    protected virtual bool AnErrorAbortsTheTransaction => false;

    /// <summary>Gets whether a completed transaction can be told from an open one, as ADO.NET has it: it has no connection.</summary>
    protected virtual bool ShowsCompletedTransactions => true;

    /// <summary>Gets whether the dialect can lock several keys at once.</summary>
    protected virtual bool HasSeveral => true;

    /// <summary>Gets whether the driver can tell that a connection is not enlisted in a TransactionScope.</summary>
    protected virtual bool ShowsEnlistment => true;

    /// <summary>Gets whether a name may have a NUL in it.</summary>
    protected virtual bool TakesNul => true;

    // MariaDB and SQL Server have nothing that grows with each grant.
    protected virtual bool HasFencing => true;

    /// <summary>Gets how often the races below are run.</summary>
    protected virtual int Races => 300;

    /// <summary>Gets a key of this test alone.</summary>
    protected LockKey Key { get; } = "contract:" + Guid.NewGuid();

    public async ValueTask DisposeAsync()
    {
        foreach (var connection in _opened)
        {
            await connection.DisposeAsync();
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Held_by_one_session_at_a_time(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.False(a.IsHeld);
        Assert.True(await a.Try(async));
        Assert.True(a.IsHeld);
        Assert.True(await Server.IsHeldAsync(Key));
        Assert.False(await b.Try(async));
        Assert.False(b.IsHeld);
        Assert.True(await a.Release(async));
        Assert.False(a.IsHeld);
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.True(await b.Try(async));
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_failed_try_changes_nothing_for_the_next(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        Assert.False(await b.Try(async));
        Assert.False(await b.Try(async));
        Assert.True(await a.Release(async));
        Assert.True(await b.Try(async));
        Assert.True(await b.Release(async));
        Assert.False(b.IsHeld);
        Assert.False(await b.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    [Trait("Part", "Quick")]
    public async Task A_wait_is_granted_when_the_holder_lets_go(bool async, bool forEver)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.Try(async));
        var waiting = b.Start(async, forEver ? Timeout.InfiniteTimeSpan : TimeSpan.FromMinutes(5));
        await Server.UntilWaitingAsync(session);
        Assert.False(waiting.IsCompleted);
        Assert.True(await a.Release(async));
        Assert.True(await waiting);
        Assert.True(b.IsHeld);
        Assert.False(await a.Try(async));
        Assert.True(await b.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_free_lock_is_granted_to_a_wait_at_once(bool async)
    {
        var a = NewLock(await OpenAsync());
        Assert.True(await a.Acquire(async, Timeout.InfiniteTimeSpan));
        Assert.True(await a.Release(async));
        Assert.True(await a.Acquire(async, TimeSpan.FromSeconds(1)));
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task A_timeout_answers_false_and_leaves_nothing(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        var clock = Stopwatch.StartNew();
        Assert.False(await b.Acquire(async, ShortWait));
        Assert.True(clock.Elapsed >= ShortWait - TimeSpan.FromMilliseconds(5), $"It waited only {clock.Elapsed}.");
        Assert.False(b.IsHeld);
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.True(await b.Acquire(async, ShortWait));
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_shortest_timeout_is_a_wait_and_not_for_ever(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        Assert.False(await b.Acquire(async, TimeSpan.FromTicks(1)));
        Assert.True(await a.Release(async));
    }

    [Fact]
    [Trait("Part", "Quick")]
    public async Task A_cancelled_wait_is_not_held()
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.AcquireAsync());
        using var cancel = new CancellationTokenSource();
        var waiting = b.Start(async: true, Timeout.InfiniteTimeSpan, cancel.Token);
        await Server.UntilWaitingAsync(session);
        await cancel.CancelAsync();
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.Equal(cancel.Token, error.CancellationToken);
        Assert.False(b.IsHeld);
        Assert.True(await a.ReleaseAsync());
        Assert.False(await Server.IsHeldAsync(Key));

        // The connection is as good as before.
        Assert.Equal(session, await Server.SessionIdAsync(connection));
        Assert.True(await b.AcquireAsync());
        Assert.True(await b.ReleaseAsync());
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => b.AcquireAsync(cancel.Token).AsTask());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_wait_that_yields_is_granted_times_out_and_is_cancelled_as_any_other(bool async)
    {
        var options = new LockOptions { Wait = LockWait.Yielding };
        var (holder, waiter) = (NewLock(await OpenAsync()), NewLock(await OpenAsync(), options));
        Assert.True(await waiter.Acquire(async, Timeout.InfiniteTimeSpan));
        Assert.True(await waiter.Release(async));
        Assert.True(await holder.Try(async));
        Assert.False(await waiter.Acquire(async, TimeSpan.FromMilliseconds(450)));
        using (var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(450)))
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiter.AcquireAsync(cancel.Token).AsTask());
        }

        // Longer than a slice: the server is asked again and again.
        var driver = new CountingDriver(Interface.Driver);
        var seen = new Lock(await OpenAsync(), Key, new LockInterface(Interface.Name, driver, Interface.Dialects), options);
        var waiting = seen.Start(async, Timeout.InfiniteTimeSpan);
        await TestServer.UntilAsync(async () => await Server.IsHeldAsync(Key) && driver.Count > 5, "several slices are over");
        Assert.False(waiting.IsCompleted);
        Assert.True(await holder.Release(async));
        Assert.True(await waiting);
        Assert.True(await seen.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Fencing_tokens_grow_with_each_grant(bool async)
    {
        var options = new LockOptions { Fencing = true };
        if (!HasFencing)
        {
            await Assert.ThrowsAsync<NotSupportedException>(async () => await NewLock(await OpenAsync(), options).Try(async));
            return;
        }

        // Every way to acquire, over several sessions, each of which sees the last holder's token.
        var (last, grants) = (0L, 0);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async session =>
        {
            var connection = await OpenAsync();
            var plain = NewLock(connection, options);
            var several = HasSeveral ? NewLock(connection, options, LockKey.All(Key, Key.Name + ":2")) : plain;
            Assert.Null(plain.FencingToken);
            for (var round = 0; round < 50; round++)
            {
                var @lock = round % 2 == 0 ? plain : several;
                if (await (round % 3 == 0 ? @lock.Try(async) : Task.Run(async () => await @lock.Acquire(async, round % 3 == 1 ? TimeSpan.FromSeconds(30) : Timeout.InfiniteTimeSpan))))
                {
                    Assert.True(@lock.FencingToken > last, $"{@lock.FencingToken} after {last}");
                    last = @lock.FencingToken!.Value;
                    grants++;
                    Assert.True(await @lock.Release(async));
                    Assert.NotNull(@lock.FencingToken);
                }
            }
        }));
        Assert.True(grants > 100, $"{grants} grants");

        // Held again by the same session: the same hold, the same token.
        var again = NewLock(await OpenAsync(), options with { Reentrant = true });
        Assert.True(await again.Try(async));
        var token = again.FencingToken;
        Assert.True(await again.Try(async));
        Assert.Equal(token, again.FencingToken);
        Assert.Null(NewLock(await OpenAsync()).FencingToken);
    }

    [Fact]
    public async Task A_fencing_token_is_refused_inside_a_transaction()
    {
        var connection = await OpenAsync();
        Assert.Throws<ArgumentException>(() => NewLock(connection, new LockOptions { Fencing = true, Scope = LockScope.Transaction }));
        if (!HasFencing)
        {
            return;
        }

        await using var transaction = await connection.BeginTransactionAsync();
        var @lock = NewLock(connection, new LockOptions { Fencing = true });
        @lock.Transaction = transaction;
        await Assert.ThrowsAsync<InvalidOperationException>(() => @lock.AcquireAsync(block: false).AsTask());
        Assert.False(await Server.IsHeldAsync(Key));
        await transaction.RollbackAsync();
        Assert.True(await @lock.AcquireAsync(block: false));
        Assert.True(await @lock.ReleaseAsync());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Release_of_what_is_not_held_answers_false(bool async)
    {
        var a = NewLock(await OpenAsync());
        Assert.False(await a.Release(async));
        Assert.True(await a.Try(async));
        Assert.True(await a.Release(async));
        Assert.False(await a.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_second_acquire_of_a_held_lock_is_refused(bool async)
    {
        var connection = await OpenAsync();
        var (a, twin) = (NewLock(connection), NewLock(connection));
        Assert.True(await a.Try(async));
        foreach (var again in new[] { a, twin })
        {
            Assert.False(await again.Try(async));
            var error = await Assert.ThrowsAsync<LockException>(() => again.Acquire(async, Timeout.InfiniteTimeSpan));
            Assert.Contains("would wait for itself", error.Message, StringComparison.Ordinal);
            await Assert.ThrowsAsync<LockException>(() => again.Acquire(async, TimeSpan.FromMinutes(1)));
        }

        Assert.False(twin.IsHeld);
        Assert.False(await twin.Release(async));
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task A_reentrant_lock_counts(bool async)
    {
        var connection = await OpenAsync();
        var options = new LockOptions { Reentrant = true };
        var (a, twin) = (NewLock(connection, options), NewLock(connection, options));
        Assert.True(await a.Try(async));
        Assert.True(await a.Acquire(async, Timeout.InfiniteTimeSpan));
        Assert.True(await twin.Acquire(async, ShortWait));
        Assert.True(await a.Release(async));
        Assert.True(a.IsHeld);
        Assert.True(await a.Release(async));
        Assert.False(a.IsHeld);
        Assert.False(await a.Release(async));
        Assert.True(await Server.IsHeldAsync(Key));
        Assert.True(await twin.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Shared_holders_stand_together_and_keep_an_exclusive_one_out(bool async)
    {
        var shared = new LockOptions { Shared = true };
        var (a, b, c) = (NewLock(await OpenAsync(), shared), NewLock(await OpenAsync(), shared), NewLock(await OpenAsync()));
        if (!Server.HasShared)
        {
            Assert.Contains("no shared locks", (await Assert.ThrowsAsync<NotSupportedException>(() => a.Try(async))).Message, StringComparison.Ordinal);
            return;
        }

        Assert.True(await a.Try(async));
        Assert.True(await b.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.False(await c.Try(async));
        Assert.True(await a.Release(async));
        Assert.False(await c.Acquire(async, ShortWait));
        Assert.True(await b.Release(async));
        Assert.True(await c.Try(async));
        Assert.False(await a.Try(async));
        Assert.True(await c.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Shared_then_exclusive_on_one_session_is_the_same_key_again(bool async)
    {
        if (!Server.HasShared)
        {
            return;
        }

        foreach (var reentrant in new[] { false, true })
        {
            var connection = await OpenAsync();
            var a = NewLock(connection, new LockOptions { Shared = true, Reentrant = reentrant });
            var b = NewLock(connection, new LockOptions { Reentrant = reentrant });
            Assert.True(await a.Try(async));
            Assert.False(await b.Try(async));
            await Assert.ThrowsAsync<LockException>(() => b.Acquire(async, ShortWait));
            Assert.True(await a.Release(async));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Several_keys_are_acquired_all_or_none(bool async)
    {
        LockKey[] keys = [Key.Name + ":1", Key.Name + ":2", Key.Name + ":3", Key.Name + ":4"];
        var (first, connection) = (await OpenAsync(), await OpenAsync());
        var all = NewLock(first, key: LockKey.All(keys));
        if (!HasSeveral)
        {
            await Assert.ThrowsAsync<NotSupportedException>(() => all.Try(async));
            return;
        }

        // Whichever is held elsewhere, the first in order, the last or one between, none of the others stays behind.
        var session = await Server.SessionIdAsync(first);
        foreach (var held in keys)
        {
            var one = NewLock(connection, key: held);
            Assert.True(await one.Try(async));
            foreach (var timeout in new[] { TimeSpan.Zero, ShortWait })
            {
                Assert.False(await all.Acquire(async, timeout));
                Assert.False(all.IsHeld);
                Assert.Equal([held], await WhereAsync(keys, Server.IsHeldAsync));
            }

            var waiting = all.Start(async, TimeSpan.FromMinutes(1));
            await Server.UntilWaitingAsync(session);
            Assert.True(await one.Release(async));
            Assert.True(await waiting);
            Assert.Equal(keys, await WhereAsync(keys, Server.IsHeldAsync));
            foreach (var key in keys)
            {
                Assert.False(await NewLock(connection, key: key).Try(async));
            }

            Assert.True(await all.Release(async));
            Assert.Empty(await WhereAsync(keys, Server.IsHeldAsync));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Several_keys_share_one_timeout(bool async)
    {
        if (!HasSeveral)
        {
            return;
        }

        // Two keys that are held, of which the first is let go when most of the time has gone: with a timeout for each key it would take nearly twice as long.
        var timeout = TimeSpan.FromSeconds(2);
        var keys = LockKey.All(Key.Name + ":1", Key.Name + ":2");
        var (connection, all) = (await OpenAsync(), NewLock(await OpenAsync(), key: keys));
        var (first, second) = (NewLock(connection, key: keys.Keys[0]), NewLock(connection, key: keys.Keys[1]));
        Assert.True(await first.Try(async));
        Assert.True(await second.Try(async));
        var clock = Stopwatch.StartNew();
        Assert.False(await all.Acquire(async, timeout));
        var alone = clock.Elapsed;
        clock.Restart();
        var waiting = all.Start(async, timeout);
        await Task.Delay(0.8 * timeout);
        Assert.True(await first.Release(async));
        Assert.False(await waiting);
        Assert.True(clock.Elapsed < 1.5 * alone, $"It waited {clock.Elapsed}, and one key took {alone}.");
        Assert.Equal([second.Key], await WhereAsync(keys.Keys, Server.IsHeldAsync));
        Assert.True(await second.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Locks_that_share_a_key_on_one_session_do_not_stand_together(bool async)
    {
        if (!HasSeveral)
        {
            return;
        }

        var connection = await OpenAsync();
        var options = new LockOptions { Reentrant = true };
        var all = NewLock(connection, options, LockKey.All(Key, Key.Name + ":1"));
        var same = NewLock(connection, options, LockKey.All(Key.Name + ":1", Key));
        var more = NewLock(connection, options, LockKey.All(Key.Name + ":1", Key.Name + ":2"));
        var one = NewLock(connection, options);
        Assert.True(await all.Try(async));
        Assert.True(await same.Try(async));
        Assert.False(await one.Try(async));
        Assert.False(await more.Try(async));
        Assert.Contains("share a key", (await Assert.ThrowsAsync<LockException>(() => one.Acquire(async, ShortWait))).Message, StringComparison.Ordinal);
        Assert.True(await same.Release(async));
        Assert.True(await Server.IsHeldAsync(Key));
        Assert.True(await all.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.True(await one.Try(async));
        Assert.False(await all.Try(async));
        Assert.True(await one.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Keys_that_are_one_to_the_server_are_locked_once(bool async)
    {
        if (!HasSeveral)
        {
            return;
        }

        // One name to servers that lock names, two numbers to the others.
        long number = Random.Shared.Next();
        var text = number.ToString(CultureInfo.InvariantCulture);
        var (connection, options) = (await OpenAsync(), new LockOptions { Reentrant = true });
        var (all, again) = (NewLock(connection, options, LockKey.All(number, text)), NewLock(connection, options, LockKey.All(text, number)));
        Assert.True(await all.Try(async));
        Assert.True(await again.Acquire(async, ShortWait));
        Assert.True(await again.Release(async));
        Assert.True(await all.Release(async));
        var other = await OpenAsync();
        foreach (LockKey key in new LockKey[] { number, text })
        {
            Assert.False(await Server.IsHeldAsync(key));
            var one = NewLock(other, key: key);
            Assert.True(await one.Try(async));
            Assert.True(await one.Release(async));
        }
    }

    [Fact]
    public async Task Several_keys_in_any_order_never_deadlock()
    {
        if (!HasSeveral)
        {
            return;
        }

        // Every task wants three of five keys, given in another order each time.
        LockKey[] keys = [.. Enumerable.Range(0, 5).Select(n => (LockKey)string.Create(CultureInfo.InvariantCulture, $"{Key}:{n}"))];
        var inside = new int[keys.Length];
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async _ =>
        {
            var connection = await OpenAsync();
            for (var round = 0; round < 50; round++)
            {
                var wanted = Random.Shared.GetItems(Enumerable.Range(0, keys.Length).ToArray(), 3).Distinct().ToArray();
                var all = NewLock(connection, key: LockKey.All(wanted.Select(n => keys[n])));
                Assert.True(await all.AcquireAsync());
                Assert.All(wanted, n => Assert.Equal(1, Interlocked.Increment(ref inside[n])));
                await Task.Yield();
                Assert.All(wanted, n => Assert.Equal(0, Interlocked.Decrement(ref inside[n])));
                Assert.True(await all.ReleaseAsync());
            }
        }));
        Assert.Empty(await WhereAsync(keys, Server.IsHeldAsync));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Several_keys_in_transaction_scope_end_with_it(bool async)
    {
        if (!HasSeveral || !Server.HasTransactionScope)
        {
            return;
        }

        LockKey[] keys = [Key.Name + ":1", Key.Name + ":2", Key.Name + ":3"];
        var options = new LockOptions { Scope = LockScope.Transaction };
        var (connection, other) = (await OpenAsync(), await OpenAsync());
        var all = NewLock(connection, options, LockKey.All(keys));
        foreach (var timeout in new[] { TimeSpan.Zero, ShortWait })
        {
            foreach (var held in keys)
            {
                var one = NewLock(other, key: held);
                Assert.True(await one.Try(async));
                await using var transaction = await connection.BeginTransactionAsync();
                all.Transaction = transaction;
                _ = Server.HasSql ? await ExecuteAsync(connection, "select 1", transaction) : null;
                Assert.False(await all.Acquire(async, timeout));
                Assert.Equal([held], await WhereAsync(keys, Server.IsHeldAsync));
                Assert.True(await one.Release(async));
                Assert.True(await all.Acquire(async, timeout));
                Assert.Equal(keys, await WhereAsync(keys, Server.IsHeldAsync));
                Assert.False(await all.Release(async));
                Assert.Equal(keys, await WhereAsync(keys, Server.IsHeldAsync));
                await transaction.CommitAsync();
                Assert.Empty(await WhereAsync(keys, Server.IsHeldAsync));
            }
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Every_kind_of_key_is_locked(bool async)
    {
        var unique = Guid.NewGuid();
        LockKey[] keys =
        [
            "x" + unique, $"it's \"quoted\"; -- {unique}", $"日本語 🔒 {unique}", new string('n', 300) + unique, BitConverter.ToInt64(unique.ToByteArray()), long.MinValue, -1L, 0L,
            (BitConverter.ToInt32(unique.ToByteArray()), -2), (int.MinValue, int.MaxValue), LockKey.From(unique), LockKey.From("a", KeyScheme.DistributedLock),
        ];
        var (first, second) = (await OpenAsync(), await OpenAsync());
        foreach (var key in keys)
        {
            // Number keys are the same for every driver that is tested at this time, so they are waited for.
            var (a, b) = (NewLock(first, key: key), NewLock(second, key: key));
            Assert.True(await a.Acquire(async, TimeSpan.FromMinutes(1)), $"{key}");
            Assert.True(await Server.IsHeldAsync(key), $"{key}");
            Assert.False(await b.Try(async), $"{key}");
            Assert.True(await a.Release(async), $"{key}");
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Names_are_not_cut_folded_or_trimmed(bool async)
    {
        var connection = await OpenAsync();
        var name = new string('x', 400) + Guid.NewGuid();
        string[] foreign = ["é", "e\u0301", "δ", "д", "\U0001F512"];
        string[] names = [Key.Name, Key.Name.ToUpperInvariant(), Key.Name + " ", name + "1", name + "2", .. foreign.Select(end => Key.Name + end), .. TakesNul ? new[] { Key.Name + "\0b", Key.Name + "\0c" } : []];
        Lock[] locks = [.. names.Select(text => NewLock(connection, key: text))];
        foreach (var each in locks)
        {
            Assert.True(await each.Try(async));
        }

        foreach (var each in locks)
        {
            Assert.True(await each.Release(async));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task An_empty_name_is_locked_or_refused(bool async)
    {
        var a = NewLock(await OpenAsync(), key: "");
        if (Server.HasEmptyNames)
        {
            Assert.True(await a.Acquire(async, TimeSpan.FromMinutes(1)));
            Assert.True(await a.Release(async));
        }
        else
        {
            Assert.Contains("empty", (await Assert.ThrowsAsync<ArgumentException>(() => a.Try(async))).Message, StringComparison.Ordinal);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_timeout_out_of_range_is_refused(bool async)
    {
        var a = NewLock(await OpenAsync());
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => a.Acquire(async, TimeSpan.FromSeconds(-5)));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => a.Acquire(async, TimeSpan.FromTicks(-1)));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => a.Acquire(async, TimeSpan.MaxValue));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task The_longest_timeout_is_a_wait(bool async)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.Try(async));
        var longest = Server == MariaDbTestServer.Instance ? LockDialect.MariaDb.MaxTimeout : LockDialect.PostgreSql.MaxTimeout;
        var waiting = b.Start(async, longest);
        await Server.UntilWaitingAsync(session);
        Assert.True(await a.Release(async));
        Assert.True(await waiting);
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Transaction_scope_ends_with_the_transaction(bool async)
    {
        var connection = await OpenAsync();
        var options = new LockOptions { Scope = LockScope.Transaction };
        var (a, other) = (NewLock(connection, options), NewLock(await OpenAsync()));
        if (!Server.HasTransactionScope)
        {
            await using var unused = await connection.BeginTransactionAsync();
            a.Transaction = unused;
            Assert.Contains("LockScope.Session", (await Assert.ThrowsAsync<NotSupportedException>(() => a.Try(async))).Message, StringComparison.Ordinal);
            return;
        }

        foreach (var (commit, timeout) in new[] { (true, TimeSpan.Zero), (false, ShortWait), (true, Timeout.InfiniteTimeSpan) })
        {
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(a.IsHeld);
            Assert.False(await other.Try(async));
            Assert.False(await a.Release(async));
            Assert.True(a.IsHeld);
            Assert.False(await a.Try(async));
            Assert.True(await Server.IsHeldAsync(Key));
            if (commit)
            {
                await transaction.CommitAsync();
            }
            else
            {
                await transaction.RollbackAsync();
            }

            Assert.False(a.IsHeld);
            Assert.False(await Server.IsHeldAsync(Key));
            Assert.False(await a.Release(async));

            // Npgsql uses the object of a transaction that was not disposed again for the next one.
            await using var next = await connection.BeginTransactionAsync();
            a.Transaction = next;
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await Server.IsHeldAsync(Key));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Transaction_scope_without_a_transaction_is_refused(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Scope = LockScope.Transaction });
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => a.Try(async));
        Assert.Contains("Lock.Transaction", error.Message, StringComparison.Ordinal);

        if (!ShowsCompletedTransactions)
        {
            return;
        }

        // A completed transaction is none.
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        await transaction.CommitAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(() => a.Try(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Fact]
    public async Task A_transaction_of_another_connection_is_refused()
    {
        var (first, second) = (await OpenAsync(), await OpenAsync());
        await using var transaction = await second.BeginTransactionAsync();
        var a = NewLock(first);
        Assert.Contains("another connection", Assert.Throws<ArgumentException>(() => a.Transaction = transaction).Message, StringComparison.Ordinal);
        Assert.Null(a.Transaction);
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task An_open_transaction_survives_a_timeout_with_its_work(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var table = await CreateTableAsync();
        foreach (var scope in Server.HasTransactionScope ? new[] { LockScope.Session, LockScope.Transaction } : [LockScope.Session])
        {
            var connection = await OpenAsync();
            var (a, b) = (NewLock(await OpenAsync()), NewLock(connection, new LockOptions { Scope = scope }));
            await using var transaction = await connection.BeginTransactionAsync();
            b.Transaction = transaction;
            await ExecuteAsync(connection, $"insert into {table} values (1)", transaction);
            Assert.True(await a.Try(async));
            Assert.False(await b.Acquire(async, ShortWait));
            Assert.False(await b.Try(async));
            await ExecuteAsync(connection, $"insert into {table} values (2)", transaction);
            Assert.True(await a.Release(async));
            Assert.True(await b.Acquire(async, ShortWait));
            await ExecuteAsync(connection, $"insert into {table} values (3)", transaction);
            Assert.Equal(scope == LockScope.Session, await b.Release(async));
            await transaction.CommitAsync();
            Assert.False(await Server.IsHeldAsync(Key));
            Assert.Equal(3L, Convert.ToInt64(await ExecuteAsync(connection, $"select count(*) from {table}"), null));
            await ExecuteAsync(connection, $"delete from {table}");
        }

        await DropTableAsync(table);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_lock_taken_in_a_transaction_is_let_go_before_its_end(bool async)
    {
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromMinutes(1), Timeout.InfiniteTimeSpan })
        {
            var logger = new RecordingLogger();
            var connection = await OpenAsync();
            var (a, b) = (NewLock(connection, new LockOptions { Logger = logger }), NewLock(await OpenAsync()));
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await a.Release(async));
            Assert.True(await b.Try(async));
            Assert.True(await b.Release(async));
            Assert.True(await a.Acquire(async, timeout));
            Assert.True(await a.Release(async));
            await transaction.CommitAsync();
            Assert.Contains("inside an open transaction", Assert.Single(logger.Warnings), StringComparison.Ordinal);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_lock_outlives_a_rollback(bool async)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(connection), NewLock(await OpenAsync()));
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        Assert.True(await a.Acquire(async, ShortWait));
        await transaction.RollbackAsync();
        Assert.True(a.IsHeld);
        Assert.False(await b.Try(async));
        Assert.True(await a.Release(async));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task After_an_error_the_transaction_is_rolled_back_and_the_lock_let_go(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var table = await CreateTableAsync();
        var connection = await OpenAsync();
        var a = NewLock(connection);
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        Assert.True(await a.Acquire(async, ShortWait));
        Exception? seen = null;
        try
        {
            await ExecuteAsync(connection, $"insert into {table} values (1)", transaction);
            await ExecuteAsync(connection, Server.FailingSql, transaction);
        }
        catch (DbException e)
        {
            seen = e;
            await a.HandleError(async, e);
        }
        finally
        {
            Assert.True(await a.Release(async));
        }

        Assert.NotNull(seen);
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal(0L, Convert.ToInt64(await ExecuteAsync(connection, $"select count(*) from {table}"), null));
        await DropTableAsync(table);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_that_fails_in_its_transaction_comes_out_with_its_own_exception(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var connection = await OpenAsync();
        var a = NewLock(connection);
        var transaction = await connection.BeginTransactionAsync();
        a.Transaction = transaction;
        var error = await Assert.ThrowsAnyAsync<DbException>(() => a.Run(async, () =>
        {
            Assert.True(a.IsHeld);
            using var command = connection.CreateCommand();
            command.CommandText = Server.FailingSql;
            command.Transaction = transaction;
            command.ExecuteNonQuery();
        }));
        Assert.Contains("there_is_no_such_table", error.Message, StringComparison.Ordinal);
        Assert.False(a.IsHeld);
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_release_in_an_aborted_transaction_rolls_it_back_or_says_so(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        foreach (var rollbackOnError in new[] { true, false })
        {
            var connection = await OpenAsync();
            var a = NewLock(connection, new LockOptions { RollbackOnError = rollbackOnError });
            var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Try(async));
            await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
            if (AnErrorAbortsTheTransaction && !rollbackOnError)
            {
                var error = await Assert.ThrowsAsync<LockException>(() => a.Release(async));
                Assert.Contains("still held", error.Message, StringComparison.Ordinal);
                Assert.True(a.IsHeld);
                await transaction.RollbackAsync();
            }

            Assert.True(await a.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Run_holds_the_lock_while_the_body_runs(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        var ran = 0;
        await a.Run(async, () =>
        {
            ran++;
            Assert.True(a.IsHeld);
            Assert.False(b.Acquire(block: false));
        });
        Assert.Equal(1, ran);
        Assert.False(await Server.IsHeldAsync(Key));
        await Assert.ThrowsAsync<DivideByZeroException>(() => a.Run(async, () => throw new DivideByZeroException()));
        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal(7, a.Run(() => 7));
        Assert.Equal(8, await a.RunAsync(_ => Task.FromResult(8)));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_does_not_run_without_the_lock(bool async)
    {
        var (a, b) = (NewLock(await OpenAsync()), NewLock(await OpenAsync()));
        Assert.True(await a.Try(async));
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => b.Run(async, () => Assert.Fail("It ran."), ShortWait));
        Assert.Contains("was not acquired within", error.Message, StringComparison.Ordinal);
        Assert.False(await b.TryRun(async, () => Assert.Fail("It ran.")));
        Assert.True(await a.Release(async));
        var ran = false;
        Assert.True(await b.TryRun(async, () => ran = true));
        Assert.True(ran);
    }

    [Fact]
    public async Task A_body_sees_the_callers_cancel_and_the_lock_is_let_go()
    {
        var a = NewLock(await OpenAsync());
        using var cancel = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => a.RunAsync(
            async token =>
            {
                await cancel.CancelAsync();
                token.ThrowIfCancellationRequested();
            },
            cancellationToken: cancel.Token));
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_closed_connection_is_refused_before_anything_is_sent(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        await connection.CloseAsync();
        Assert.Contains("open it", (await Assert.ThrowsAsync<InvalidOperationException>(() => a.Try(async))).Message, StringComparison.Ordinal);
        Assert.False(await a.Release(async));
        await a.Dispose(async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Closing_the_connection_loses_the_lock_and_says_so(bool async)
    {
        var logger = new RecordingLogger();
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Logger = logger });
        Assert.Equal(CancellationToken.None, a.Lost);
        Assert.True(await a.Try(async));
        var lost = a.Lost;
        Assert.False(lost.IsCancellationRequested);
        await connection.CloseAsync();
        Assert.True(lost.IsCancellationRequested);
        Assert.False(a.IsHeld);
        Assert.Contains("closed while it held", Assert.Single(logger.Warnings), StringComparison.Ordinal);
        await Server.UntilFreeAsync(Key);
        Assert.Contains("may not have been alone", (await Assert.ThrowsAsync<LockLostException>(() => a.Release(async))).Message, StringComparison.Ordinal);
        Assert.False(await a.Release(async));
        await a.Dispose(async);

        // What the connection held before is not held now.
        await connection.OpenAsync();
        var again = NewLock(connection);
        Assert.True(await again.Try(async));
        Assert.True(await again.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task A_killed_session_is_told_as_a_lost_lock(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        Assert.True(await a.Try(async));
        await Server.KillAsync(await Server.SessionIdAsync(connection));
        await Server.UntilFreeAsync(Key);
        await Assert.ThrowsAsync<LockLostException>(() => a.Release(async));
        Assert.False(a.IsHeld);
        Assert.True(a.Lost.IsCancellationRequested);
        Assert.False(await a.Release(async));
        await a.Dispose(async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Nothing_is_thrown_over_the_callers_own_exception(bool async)
    {
        var logger = new RecordingLogger();
        var options = new LockOptions { Logger = logger };
        var connection = await OpenAsync();
        var a = NewLock(connection, options);
        Assert.True(await a.Try(async));
        await Server.KillAsync(await Server.SessionIdAsync(connection));
        await Server.UntilFreeAsync(Key);
        await a.HandleError(async, new DivideByZeroException());
        Assert.False(await a.Release(async));
        Assert.Contains(logger.Warnings, text => text.Contains("was lost", StringComparison.Ordinal));

        var second = await OpenAsync();
        var b = NewLock(second, options);
        var session = await Server.SessionIdAsync(second);
        await Assert.ThrowsAsync<DivideByZeroException>(() => b.Run(async, () =>
        {
            Server.KillAsync(session).GetAwaiter().GetResult();
            Server.UntilFreeAsync(Key).GetAwaiter().GetResult();
            throw new DivideByZeroException();
        }));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Dispose_lets_go_and_is_quiet(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection, new LockOptions { Reentrant = true });
        Assert.True(await a.Try(async));
        Assert.True(await a.Try(async));
        await a.Dispose(async);
        Assert.False(await Server.IsHeldAsync(Key));
        await a.Dispose(async);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => a.Try(async));
        Assert.False(await a.Release(async));
        Assert.Equal(ConnectionState.Open, connection.State);

        var b = NewLock(connection);
        Assert.True(await b.Try(async));
        await Server.KillAsync(await Server.SessionIdAsync(connection));
        await Server.UntilFreeAsync(Key);
        await b.Dispose(async);
        await b.Dispose(async);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Dispose_in_an_aborted_transaction_leaves_no_lock(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        foreach (var rollbackOnError in new[] { true, false })
        {
            var connection = await OpenAsync();
            var a = NewLock(connection, new LockOptions { RollbackOnError = rollbackOnError });
            await using var transaction = await connection.BeginTransactionAsync();
            a.Transaction = transaction;
            Assert.True(await a.Try(async));
            await Assert.ThrowsAnyAsync<DbException>(() => ExecuteAsync(connection, Server.FailingSql, transaction));
            await a.Dispose(async);
            await Server.UntilFreeAsync(Key);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task One_lock_serves_one_caller_at_a_time(bool async)
    {
        var connection = await OpenAsync();
        var (a, b) = (NewLock(await OpenAsync()), NewLock(connection));
        var session = await Server.SessionIdAsync(connection);
        Assert.True(await a.Try(async));
        var waiting = b.Start(async, Timeout.InfiniteTimeSpan);
        await Server.UntilWaitingAsync(session);
        foreach (var call in new Func<Task>[] { () => b.Try(async), () => b.Release(async), () => b.Dispose(async) })
        {
            Assert.Contains("in use by another call", (await Assert.ThrowsAsync<InvalidOperationException>(call)).Message, StringComparison.Ordinal);
        }

        Assert.True(await a.Release(async));
        Assert.True(await waiting);
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_deadlock_is_told_and_leaves_nothing(bool async)
    {
        LockKey other = Key.Name + ":other";
        var (first, second) = (await OpenAsync(), await OpenAsync());
        var (ax, ay) = (NewLock(first), NewLock(first, key: other));
        var (bx, by) = (NewLock(second), NewLock(second, key: other));
        Assert.True(await ax.Try(async));
        Assert.True(await by.Try(async));
        var (a, b) = (ay.Start(async, Timeout.InfiniteTimeSpan), bx.Start(async, Timeout.InfiniteTimeSpan));
        var victim = await Task.WhenAny(a, b);
        var error = await Assert.ThrowsAsync<LockDeadlockException>(() => victim);
        var (kept, lost, winner) = victim == a ? (ax, ay, b) : (by, bx, a);
        Assert.Contains($"still holds '{kept.Key}'", error.Message, StringComparison.Ordinal);
        Assert.False(lost.IsHeld);
        Assert.True(kept.IsHeld);
        Assert.True(await kept.Release(async));
        Assert.True(await winner);
        foreach (var each in new[] { ax, ay, bx, by })
        {
            await each.Release(async);
        }

        Assert.False(await Server.IsHeldAsync(Key));
        Assert.False(await Server.IsHeldAsync(other));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task In_a_transaction_scope_a_connection_that_is_not_enlisted_works_and_one_that_may_be_is_refused(bool async)
    {
        var a = NewLock(await OpenAsync());
        var b = NewLock(await OpenAsync(), key: Key.Name + ":other");
        Assert.True(await a.Try(async));
        using (new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
        {
            if (ShowsEnlistment)
            {
                Assert.True(await b.Try(async));
                Assert.True(await b.Release(async));
                Assert.False(await Server.IsHeldAsync(b.Key));
            }
            else
            {
                var error = await Assert.ThrowsAsync<InvalidOperationException>(() => b.Try(async));
                Assert.Contains("TransactionScopeOption.Suppress", error.Message, StringComparison.Ordinal);
            }

            using (new TransactionScope(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled))
            {
                Assert.True(await b.Try(async));
                Assert.True(await b.Release(async));
            }

            Assert.True(await a.Release(async));
        }

        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task An_open_reader_is_named_or_no_hindrance(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var connection = await OpenAsync();
        var (a, b) = (NewLock(connection), NewLock(connection, key: Key.Name + ":other"));
        Assert.True(await a.Try(async));
        await using (var command = connection.CreateCommand())
        {
            command.CommandText = "select 1";
            await using var reader = await command.ExecuteReaderAsync();
            foreach (var timeout in new[] { TimeSpan.Zero, Timeout.InfiniteTimeSpan })
            {
                // Some ODBC drivers have read all there is, and then no reader is in the way.
                var error = await Record.ExceptionAsync(() => b.Acquire(async, timeout));
                Assert.True(error is InvalidOperationException || (error is null && Interface == LockInterface.Odbc), $"{error}");
                Assert.Contains("open reader", error?.Message ?? "no open reader", StringComparison.Ordinal);
                Assert.Equal(error is null, b.IsHeld);
                await Record.ExceptionAsync(() => b.Release(async));
            }

            if (Interface != LockInterface.Odbc)
            {
                Assert.Contains("still held", (await Assert.ThrowsAsync<InvalidOperationException>(() => a.Release(async))).Message, StringComparison.Ordinal);
            }

            Assert.True(a.IsHeld);
        }

        await b.Release(async);
        Assert.True(await a.Release(async));
        Assert.Equal(ConnectionState.Open, connection.State);
        Assert.False(await Server.IsHeldAsync(b.Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_body_that_leaves_a_reader_open_leaves_no_lock(bool async)
    {
        if (!Server.HasSql)
        {
            return;
        }

        var connection = await OpenAsync();
        var a = NewLock(connection);
        var error = await Record.ExceptionAsync(() => a.Run(async, () =>
        {
            var command = connection.CreateCommand();
            command.CommandText = "select 1";
            command.ExecuteReader();
        }));

        // Some ODBC drivers have read all there is, and then no reader is in the way.
        Assert.True(error is LockException || (error is null && Interface == LockInterface.Odbc), $"{error}");
        Assert.Contains("Dispose every reader", error?.Message ?? "Dispose every reader", StringComparison.Ordinal);
        Assert.False(a.IsHeld);
        await Server.UntilFreeAsync(Key);
    }

    [Theory, InlineData(false, false), InlineData(false, true), InlineData(true, false), InlineData(true, true)]
    public async Task A_body_in_a_transaction_is_committed_or_rolled_back_with_it(bool async, bool transactionScope)
    {
        if (!Server.HasSql || (transactionScope && !Server.HasTransactionScope))
        {
            return;
        }

        var table = await CreateTableAsync();
        var (connection, observer) = (await OpenAsync(), await OpenAsync());
        var options = new LockOptions { Scope = transactionScope ? LockScope.Transaction : LockScope.Session };
        var a = NewLock(connection, options);
        await InTransaction(() => Insert(1));
        Assert.Equal(1L, await CountAsync());
        await Assert.ThrowsAsync<DivideByZeroException>(() => InTransaction(() =>
        {
            Insert(2);
            throw new DivideByZeroException();
        }));
        Assert.Equal(1L, await CountAsync());
        Assert.False(await Server.IsHeldAsync(Key));

        // In an open transaction an error costs the body's part alone.
        await using (var outer = await connection.BeginTransactionAsync())
        {
            a.Transaction = outer;
            await ExecuteAsync(connection, $"insert into {table} values (3)", outer);
            await Assert.ThrowsAsync<DivideByZeroException>(() => InTransaction(() =>
            {
                Insert(4);
                throw new DivideByZeroException();
            }));
            Assert.False(a.IsHeld);
            Assert.False(await Server.IsHeldAsync(Key));
            await InTransaction(() => Insert(5));
            Assert.Equal(transactionScope, await Server.IsHeldAsync(Key));
            await outer.CommitAsync();
            a.Transaction = null;
        }

        Assert.False(await Server.IsHeldAsync(Key));
        Assert.Equal(3L, await CountAsync());
        Assert.Equal(9L, Convert.ToInt64(await ExecuteAsync(observer, $"select sum(n) from {table}"), CultureInfo.InvariantCulture));

        // Held before: the hold that the body had is given back, and the caller's own stays.
        if (!transactionScope)
        {
            var outside = a;
            a = NewLock(connection, new LockOptions { Reentrant = true });
            Assert.True(await a.Try(async));
            await using (var outer = await connection.BeginTransactionAsync())
            {
                a.Transaction = outer;
                await Assert.ThrowsAsync<DivideByZeroException>(() => InTransaction(() => throw new DivideByZeroException()));
                a.Transaction = null;
                await outer.RollbackAsync();
            }

            Assert.True(a.IsHeld);
            Assert.True(await a.Release(async));
            Assert.False(await Server.IsHeldAsync(Key));
            a = outside;
        }

        // The body does not run without the lock.
        var holder = NewLock(observer);
        Assert.True(await holder.Try(async));
        await Assert.ThrowsAsync<LockNotAcquiredException>(() => InTransaction(() => Assert.Fail("It ran."), ShortWait));
        Assert.True(await holder.Release(async));
        await DropTableAsync(table);

        async Task InTransaction(Action body, TimeSpan? timeout = null)
        {
            void Checked(DbTransaction transaction)
            {
                Assert.True(a.IsHeld);
                Assert.Same(a.Transaction, transaction);
                body();
            }

            if (async)
            {
                await a.RunInTransactionAsync(
                    async (transaction, _) =>
                    {
                        await Task.Yield();
                        Checked(transaction);
                    },
                    timeout);
            }
            else
            {
                a.RunInTransaction(Checked, timeout);
            }
        }

        void Insert(int n)
        {
            using var command = connection.CreateCommand();
            command.CommandText = string.Create(CultureInfo.InvariantCulture, $"insert into {table} values ({n})");
            command.Transaction = a.Transaction;
            command.ExecuteNonQuery();
        }

        async Task<long> CountAsync() => Convert.ToInt64(await ExecuteAsync(observer, $"select count(*) from {table}"), CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task The_promised_lines_work()
    {
        var conn = await OpenAsync();
        var @lock = new Lock(conn, Key);
        Assert.Equal(conn is Npgsql.NpgsqlConnection ? LockInterface.Npgsql : Interface, @lock.Interface);
        var error = await Assert.ThrowsAsync<DivideByZeroException>(async () =>
        {
            if (@lock.Acquire(block: false))
            {
                try
                {
                    throw new DivideByZeroException();
                }
                catch (Exception e)
                {
                    @lock.HandleError(e);
                    throw;
                }
                finally
                {
                    await @lock.ReleaseAsync();
                }
            }
        });
        Assert.NotNull(error);
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Many_tasks_exclude_each_other(bool async)
    {
        const int Tasks = 6;
        const int Rounds = 25;
        var (inside, counter) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, Tasks).Select(_ => Task.Factory.StartNew(
            async () =>
            {
                var mine = NewLock(await OpenAsync());
                for (var i = 0; i < Rounds; i++)
                {
                    Assert.True(await mine.Acquire(async, TimeSpan.FromMinutes(2)));
                    Assert.Equal(1, Interlocked.Increment(ref inside));
                    var read = counter;
                    await Task.Yield();
                    counter = read + 1;
                    Interlocked.Decrement(ref inside);
                    Assert.True(await mine.Release(async));
                }
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap()));
        Assert.Equal(Tasks * Rounds, counter);
        Assert.False(await Server.IsHeldAsync(Key));
    }

    [Theory, InlineData(false, false), InlineData(true, false), InlineData(true, true)]
    public async Task A_timeout_that_meets_the_grant_is_reported_as_the_server_has_it(bool async, bool several)
    {
        var timeout = TimeSpan.FromMilliseconds(Server == SqlServerTestServer.Instance ? 10 : 4);
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

    protected static async Task<LockKey[]> WhereAsync(IEnumerable<LockKey> keys, Func<LockKey, Task<bool>> condition)
    {
        var found = new List<LockKey>();
        foreach (var key in keys)
        {
            if (await condition(key))
            {
                found.Add(key);
            }
        }

        return [.. found];
    }

    protected abstract Task<DbConnection> ConnectAsync();

    // The holder lets go at the very moment at which the wait ends for another reason: the moment is moved after every round towards the other outcome, so that both
    // happen again and again. After each one the server is asked who holds the lock.
    protected async Task RaceAsync(bool async, bool several, Func<Lock, Task<bool>> acquire, TimeSpan after, LockScope? inTransaction = null)
    {
        if (several && !HasSeveral)
        {
            return;
        }

        var (first, second) = (await OpenAsync(), await OpenAsync());
        LockKey[] keys = several ? [Key, Key.Name + ":a", Key.Name + ":b", Key.Name + ":c"] : [Key];
        var holder = NewLock(first);
        var session = await Server.SessionIdAsync(second);
        var (granted, aborted, step) = (0, 0, TimeSpan.FromTicks(Math.Min((after / 4).Ticks, TimeSpan.TicksPerMillisecond)));
        var races = after < TimeSpan.FromMilliseconds(100) ? Races / (inTransaction is null ? 1 : 4) : 40;
        for (var round = 0; round < races; round++)
        {
            Assert.True(await holder.Try(async));
            await using var transaction = inTransaction is null ? null : await second.BeginTransactionAsync();
            var waiter = NewLock(second, new LockOptions { Scope = inTransaction ?? LockScope.Session }, LockKey.All(keys));
            waiter.Transaction = transaction;
            var waiting = Task.Factory.StartNew(() => acquire(waiter), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap();
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
            var acquired = await waiting;
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
                catch (DbException e) when (!acquired && Interface.Driver.Read(e).SqlState == "25P02")
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
        Assert.Equal(session, await Server.SessionIdAsync(second));
    }

    protected async Task<DbConnection> OpenAsync()
    {
        var connection = await ConnectAsync();
        lock (_opened)
        {
            _opened.Add(connection);
        }

        return connection;
    }

    protected Lock NewLock(DbConnection connection, LockOptions? options = null, LockKey? key = null) => new(connection, key ?? Key, Interface, options);

    protected internal static async Task<object?> ExecuteAsync(DbConnection connection, string sql, DbTransaction? transaction = null)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.Transaction = transaction;
        return await command.ExecuteScalarAsync();
    }

    private async Task<string> CreateTableAsync()
    {
        var table = "work_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(await OpenAsync(), $"create table {table} (n int)");
        return table;
    }

    private async Task DropTableAsync(string table) => await ExecuteAsync(await OpenAsync(), $"drop table {table}");
}
