namespace DbLock.Specification;

/// <summary>Every call of a lock in its two modes, so that one test serves both.</summary>
public static class LockCalls
{
    /// <summary>Says whether there was no connection, or no answer, in time: a machine that does much else.</summary>
    public static bool IsLate(this LockException error) =>
        error.InnerException is TimeoutException || error.Message.StartsWith("No connection", StringComparison.Ordinal);

    extension(Lock @lock)
    {
        public async Task<bool> Try(bool async) => async ? await @lock.AcquireAsync(block: false) : @lock.Acquire(block: false);

        public async Task<bool> Acquire(bool async, TimeSpan timeout) => async ? await @lock.AcquireAsync(timeout) : @lock.Acquire(timeout);

        /// <summary>Starts a wait that goes on while the test does.</summary>
        public Task<bool> Start(bool async, TimeSpan timeout, CancellationToken cancellationToken = default) => async
            ? @lock.AcquireAsync(timeout, cancellationToken).AsTask()
            : Task.Factory.StartNew(
                () => @lock.Acquire(timeout), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

        public async Task<bool> Release(bool async) => async ? await @lock.ReleaseAsync() : @lock.Release();

        public async Task<bool> IsHeldNow(bool async) => async ? await @lock.IsHeldAsync() : @lock.IsHeldNow();

        public async Task HandleError(bool async, Exception error)
        {
            if (async)
            {
                await @lock.HandleErrorAsync(error);
            }
            else
            {
                @lock.HandleError(error);
            }
        }

        public async Task Dispose(bool async)
        {
            if (async)
            {
                await @lock.DisposeAsync();
            }
            else
            {
                @lock.Dispose();
            }
        }

        public async Task Run(bool async, Action body, TimeSpan? timeout = null)
        {
            if (async)
            {
                await @lock.RunAsync(Body(body), timeout);
            }
            else
            {
                @lock.Run(body, timeout);
            }
        }

        public async Task<bool> TryRun(bool async, Action body) => async ? await @lock.TryRunAsync(Body(body)) : @lock.TryRun(body);
    }

    private static Func<CancellationToken, Task> Body(Action body) => async _ =>
    {
        await Task.Yield();
        body();
    };
}
