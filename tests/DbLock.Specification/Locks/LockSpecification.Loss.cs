namespace DbLock.Specification;

/// <content>A hold that has ended is told.</content>
public abstract partial class LockSpecification
{
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
        Assert.Contains(
            "may not have been alone",
            (await Assert.ThrowsAsync<LockLostException>(() => a.Release(async))).Message, StringComparison.Ordinal);
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
}
