using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace DbLock;

/// <summary>
/// Looks at each database at the application's start, before anything else begins: what will not work by itself ends the start, and a
/// server that cannot be reached at present is logged.
/// </summary>
internal sealed partial class LockStart(IServiceProvider provider, IEnumerable<LockDatabase> databases) : IHostedLifecycleService
{
    private readonly ILogger _logger = LockDatabase.Logger(provider) ?? NullLogger.Instance;

    public Task StartingAsync(CancellationToken cancellationToken) => Task.WhenAll(databases.Select(async database =>
    {
        var source = database.Source(provider);
        try
        {
            await Probe.Try(source, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not OperationCanceledException && Probe.MayPass(e))
        {
            Unreachable(_logger, database, e);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new LockException($"The application cannot lock with {database}: {e.Message}", e);
        }
    }));

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    [LoggerMessage(60, LogLevel.Error,
        "The database of {Database} cannot be asked at the application's start; whether its locks work is not known until it can.")]
    private static partial void Unreachable(ILogger logger, LockDatabase database, Exception error);
}
