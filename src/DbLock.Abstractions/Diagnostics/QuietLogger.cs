using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace DbLock;

/// <summary>The caller's logger, whose own failures do not come between a lock and its release.</summary>
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
            // A log that cannot be written is not worth a lock that stays.
        }
    }
}
