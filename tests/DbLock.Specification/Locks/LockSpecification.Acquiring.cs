namespace DbLock.Specification;

/// <content>One holder at a time, and what it takes to be one.</content>
public abstract partial class LockSpecification
{
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

    [Fact]
    public async Task The_promised_lines_work()
    {
        var conn = await OpenAsync();
        var @lock = Found is null ? new Lock(conn, Key, Interface) : new Lock(conn, Key);
        Assert.Equal(Found ?? Interface, @lock.Interface);
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
            Assert.Contains(
                "in use by another call", (await Assert.ThrowsAsync<InvalidOperationException>(call)).Message, StringComparison.Ordinal);
        }

        Assert.True(await a.Release(async));
        Assert.True(await waiting);
        Assert.True(await b.Release(async));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_closed_connection_is_refused_before_anything_is_sent(bool async)
    {
        var connection = await OpenAsync();
        var a = NewLock(connection);
        await connection.CloseAsync();
        Assert.Contains(
            "open it", (await Assert.ThrowsAsync<InvalidOperationException>(() => a.Try(async))).Message, StringComparison.Ordinal);
        Assert.False(await a.Release(async));
        await a.Dispose(async);
    }
}
