namespace DbLock;

/// <summary>Runs the caller's code under a lock, and lets go of the lock after it, however the code ends.</summary>
internal static class Running
{
    public static Func<CancellationToken, ValueTask> Body(Action body) => _ =>
    {
        body();
        return ValueTask.CompletedTask;
    };

    public static Func<CancellationToken, ValueTask> Body(Func<CancellationToken, Task> body) => token => new ValueTask(body(token));

    /// <summary>Acquires the lock, and throws when it was held elsewhere for the whole timeout.</summary>
    public static async ValueTask AcquireOrThrow(
        Holding holding, TimeSpan? timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await holding.Acquire(timeout ?? Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false))
        {
            throw await DidNotRun(holding, timeout, async).ConfigureAwait(false);
        }
    }

    /// <summary>Runs a body under the lock, and throws when the lock was held elsewhere for the whole timeout.</summary>
    public static async ValueTask RunOrThrow(
        Holding holding, Func<CancellationToken, ValueTask> body, TimeSpan? timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await Run(holding, body, timeout ?? Timeout.InfiniteTimeSpan, async, cancellationToken).ConfigureAwait(false))
        {
            throw await DidNotRun(holding, timeout, async).ConfigureAwait(false);
        }
    }

    /// <summary>Returns the exception for a timeout. It says who holds the lock, if the server tells.</summary>
    public static async ValueTask<LockNotAcquiredException> NotAcquired(
        Holding holding, TimeSpan timeout, string meaning, string orElse, bool async)
    {
        var holders = await Holders.TryAsk(holding.Conversation, async).ConfigureAwait(false);
        return LockNotAcquiredException.Within(timeout, holding.Conversation.Key, meaning, null, holders, orElse);
    }

    /// <summary>
    /// Lets go of the lock after a body has run to its end. The caller cannot release it, so if it cannot be let go the session is ended.
    /// </summary>
    public static async ValueTask ReleaseAfterBody(Holding holding, bool async)
    {
        try
        {
            await holding.Release(async).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not LockLostException && holding.IsHeldForSession)
        {
            await holding.Conversation.EndSession(e, async).ConfigureAwait(false);
            throw Refusals.NotLetGoAfterBody(holding.Conversation.Key, e);
        }
    }

    /// <summary>Runs a body under the lock.</summary>
    /// <returns>False when the lock was held elsewhere for the whole timeout, and the body did not run.</returns>
    public static async ValueTask<bool> Run(
        Holding holding, Func<CancellationToken, ValueTask> body, TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        if (!await holding.Acquire(timeout, async, cancellationToken).ConfigureAwait(false))
        {
            return false;
        }

        try
        {
            using var ended = CancellationTokenSource.CreateLinkedTokenSource(
                cancellationToken, async ? holding.Lost : CancellationToken.None);
            await body(ended.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await holding.HandleError(e, async).ConfigureAwait(false);
            await holding.ReleaseOrEndSession(async).ConfigureAwait(false);
            throw;
        }

        await ReleaseAfterBody(holding, async).ConfigureAwait(false);
        return true;
    }

    private static ValueTask<LockNotAcquiredException> DidNotRun(Holding holding, TimeSpan? timeout, bool async) =>
        NotAcquired(holding, timeout.GetValueOrDefault(), ", and the body did not run", "TryRun to skip it", async);
}
