using System.Data.Common;

namespace DbLock.Cli;

/// <summary>A lease that <c>dblock run</c> holds. It keeps no connection: each renewal borrows one.</summary>
internal sealed class LeasedHold : IRunHold, IAsyncDisposable
{
    private readonly DbDataSource _source;
    private readonly HeldLock _held;

    private LeasedHold(DbDataSource source, HeldLock held) => (_source, _held) = (source, held);

    public long? SessionId => null;

    public long? FencingToken => _held.FencingToken;

    public int? Slot => _held.Slot;

    /// <summary>Acquires the lease.</summary>
    /// <exception cref="LockNotAcquiredException">It was held elsewhere for the whole timeout.</exception>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public static async Task<LeasedHold> AcquireAsync(RunJob job, RunLimit limit, CancellationToken signal)
    {
        // A source that gets no connection says that the server did not answer, because it would try again. At the start it is told why.
        var first = await RunSession.ConnectAsync(job.Database, limit, signal).ConfigureAwait(false);
        await using (first.ConfigureAwait(false))
        {
            if (job.Database is SqliteDatabase)
            {
                // There is no administrator who would have made the table.
                await LeaseTable.Default.CreateAsync(first, job.Database.Interface, signal).ConfigureAwait(false);
            }
        }

        var source = job.Database.CreateSource();
        try
        {
            var held = await source.AcquireLockAsync(job.Key, limit.Wait, job.Database.Interface, job.Options, signal)
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
