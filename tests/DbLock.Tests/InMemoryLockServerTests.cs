namespace DbLock.Tests;

/// <summary>What only the server in memory can get wrong.</summary>
public sealed class InMemoryLockServerTests
{
    private static readonly LockKey Key = "in memory: one";

    [Fact]
    public async Task A_session_that_was_ended_while_it_waited_is_not_given_the_lock_that_is_let_go_then()
    {
        for (var round = 0; round < 200; round++)
        {
            var server = new InMemoryLockServer();
            await using InMemoryConnection holder = server.CreateConnection(), waiter = server.CreateConnection();
            await holder.OpenAsync(TestContext.Current.CancellationToken);
            await waiter.OpenAsync(TestContext.Current.CancellationToken);
            Lock held = new(holder, Key), waiting = new(waiter, Key);
            Assert.True(await held.AcquireAsync(TestContext.Current.CancellationToken));
            var wait = waiting.AcquireAsync(TestContext.Current.CancellationToken).AsTask();
            Assert.True(server.IsWaiting(waiter.SessionId));

            // Before the waiter has had the time to notice.
            Assert.True(server.EndSession(waiter.SessionId));
            Assert.True(held.Release());
            Assert.False(server.IsHeld(Key));
            await Assert.ThrowsAnyAsync<Exception>(() => wait);
            Assert.True(held.Acquire(block: false));
        }
    }

    // Each of them was looked for behind all the others: it took minutes.
    [Fact]
    public async Task Thousands_wait_for_one_key_and_each_gets_it()
    {
        var source = new InMemoryLockServer().CreateDataSource();
        var (all, had) = (3000, 0);
        List<Task> waits = [];
        await using (await source.AcquireLockAsync(Key, cancellationToken: TestContext.Current.CancellationToken))
        {
            waits.AddRange(Enumerable.Range(0, all).Select(_ => WaitAsync()));
            Assert.Equal(0, had);
        }

        await Task.WhenAll(waits);
        Assert.Equal(all, had);

        async Task WaitAsync()
        {
            await using var held = await source.AcquireLockAsync(Key, cancellationToken: TestContext.Current.CancellationToken);
            had++;
        }
    }

    [Fact]
    public async Task Who_waits_for_what_another_holds_that_waits_for_it_is_told_however_long_the_way_round_is()
    {
        var server = new InMemoryLockServer();
        const int Circle = 6;
        List<Lock> own = [], next = [];
        for (var n = 0; n < Circle; n++)
        {
            var connection = server.CreateConnection();
            await connection.OpenAsync(TestContext.Current.CancellationToken);
            own.Add(new Lock(connection, $"in memory: {n}"));
            next.Add(new Lock(connection, $"in memory: {(n + 1) % Circle}"));
            Assert.True(await own[n].AcquireAsync(TestContext.Current.CancellationToken));
        }

        var waits = next.Take(Circle - 1).Select(one => one.AcquireAsync(TestContext.Current.CancellationToken).AsTask()).ToList();
        await Assert.ThrowsAsync<LockDeadlockException>(async () => await next[^1].AcquireAsync(TestContext.Current.CancellationToken));
        Assert.True(await own[^1].ReleaseAsync());
        for (var n = Circle - 2; n >= 0; n--)
        {
            Assert.True(await waits[n]);
            Assert.True(await next[n].ReleaseAsync());
            Assert.True(await own[n].ReleaseAsync());
        }
    }
}
