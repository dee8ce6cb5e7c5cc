using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace DbLock;

/// <summary>
/// Passes everything on to the caller's logger and swallows its exceptions, which must not come between a lock and its release.
/// </summary>
internal sealed class QuietLogger(ILogger logger) : ILogger
{
    public static ILogger Of(ILogger? logger) => logger is null ? NullLogger.Instance : new QuietLogger(logger);

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel)
    {
        try
        {
            return logger.IsEnabled(logLevel);
        }
        catch (Exception)
        {
            return false;
        }
    }

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        try
        {
            logger.Log(logLevel, eventId, state, exception, formatter);
        }
        catch (Exception)
        {
            // If this exception came out, a lock could stay held because its log could not be written.
        }
    }
}
