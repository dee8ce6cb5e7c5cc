namespace DbLock.Tests.Acquiring;

/// <summary>What a caller does with a lock, and what comes of it.</summary>
internal delegate ValueTask<object> LockCall(Lock @lock, bool async, CancellationToken cancellationToken);

/// <summary>What a caller does with a lock.</summary>
internal static class LockCalls
{
    public static LockCall Try { get; } = Acquire(TimeSpan.Zero);

    public static LockCall Wait { get; } = Acquire(TimeSpan.FromHours(1));

    public static LockCall Release { get; } = static async (@lock, async, _) => async ? await @lock.ReleaseAsync() : @lock.Release();

    public static LockCall Dispose { get; } = static async (@lock, async, _) =>
    {
        if (async)
        {
            await @lock.DisposeAsync();
        }
        else
        {
            @lock.Dispose();
        }

        return "disposed";
    };

    public static LockCall HandleError { get; } = static async (@lock, async, _) =>
    {
        var error = new FormatException("body");
        if (async)
        {
            await @lock.HandleErrorAsync(error);
        }
        else
        {
            @lock.HandleError(error);
        }

        return "handled";
    };

    public static LockCall RunToTheEnd { get; } = Run(static () => { });

    public static LockCall RunIntoAnError { get; } = Run(static () => throw new FormatException("body"));

    public static LockCall Confirm { get; } = static async (@lock, async, _) => await @lock.Holding.Confirm(async);

    public static LockCall Acquire(TimeSpan timeout) =>
        async (@lock, async, token) => async ? await @lock.AcquireAsync(timeout, token) : @lock.Acquire(timeout);

    /// <summary>Does one thing after the other, and tells what comes of the last.</summary>
    public static LockCall Then(this LockCall first, LockCall next) => async (@lock, async, token) =>
    {
        await first(@lock, async, token);
        return await next(@lock, async, token);
    };

    private static LockCall Run(Action body) => async (@lock, async, token) =>
    {
        if (async)
        {
            await @lock.RunAsync(
                _ =>
                {
                    body();
                    return Task.CompletedTask;
                },
                timeout: null,
                token);
        }
        else
        {
            @lock.Run(body);
        }

        return "ran";
    };
}
