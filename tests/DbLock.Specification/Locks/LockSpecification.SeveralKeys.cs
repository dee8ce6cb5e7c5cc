using System.Diagnostics;
using System.Globalization;

namespace DbLock.Specification;

/// <content>Several keys as one lock.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Several_keys_are_acquired_all_or_none(bool async)
    {
        LockKey[] keys = [Key.Name + ":1", Key.Name + ":2", Key.Name + ":3", Key.Name + ":4"];
        var (first, connection) = (await OpenAsync(), await OpenAsync());
        var all = NewLock(first, key: LockKey.All(keys));
        if (!Server.HasSeveral)
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
        if (!Server.HasSeveral)
        {
            return;
        }

        // Two keys that are held, of which the first is let go when most of the time has gone: with a timeout for each key it would take
        // nearly twice as long.
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
        if (!Server.HasSeveral)
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
        Assert.Contains(
            "share a key",
            (await Assert.ThrowsAsync<LockException>(() => one.Acquire(async, ShortWait))).Message, StringComparison.Ordinal);
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
        if (!Server.HasSeveral)
        {
            return;
        }

        // One name to servers that lock names, two numbers to the others.
        long number = Random.Shared.Next();
        var text = number.ToString(CultureInfo.InvariantCulture);
        var (connection, options) = (await OpenAsync(), new LockOptions { Reentrant = true });
        var all = NewLock(connection, options, LockKey.All(number, text));
        var again = NewLock(connection, options, LockKey.All(text, number));
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
        if (!Server.HasSeveral)
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
        if (!Server.HasSeveral || !Server.HasTransactionScope)
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
}
