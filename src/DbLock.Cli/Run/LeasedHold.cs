using Npgsql;

namespace DbLock.Cli;

/// <summary>A lease that <c>dblock run</c> holds. It keeps no connection: each renewal borrows one.</summary>
internal sealed class LeasedHold : IRunHold, IAsyncDisposable
{
    private readonly NpgsqlDataSource _source;
    private readonly HeldLock _held;

    private LeasedHold(NpgsqlDataSource source, HeldLock held) => (_source, _held) = (source, held);

    public int? ServerPid => null;

    public long FencingToken => _held.FencingToken!.Value;

    public int? Slot => _held.Slot;

    /// <summary>Acquires the lease.</summary>
    /// <exception cref="LockNotAcquiredException">It was held elsewhere for the whole timeout.</exception>
    public static async Task<LeasedHold> AcquireAsync(RunJob job, CancellationToken signal)
    {
        var source = NpgsqlDataSource.Create(job.Connection);
        try
        {
            var held = await source.AcquireLockAsync(job.Key, job.Timeout, LockInterface.Npgsql, job.Options, signal)
                .ConfigureAwait(false);
            return new LeasedHold(source, held);
        }
        catch (Exception)
        {
            await source.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public Task<string?> ConfirmAsync() => Task.FromResult(Reason());

    public async Task<string?> LossAsync(CancellationToken stop)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(stop, _held.Lost);
        await Task.Delay(Timeout.Infinite, end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return Reason();
    }

    public Task ReleaseAsync() => _held.ReleaseAsync().AsTask();

    public async ValueTask DisposeAsync()
    {
        await _held.DisposeAsync().ConfigureAwait(false);
        await _source.DisposeAsync().ConfigureAwait(false);
    }

    private string? Reason() => _held.IsHeld ? null : "the lease was not renewed in time, or its row was changed";
}
