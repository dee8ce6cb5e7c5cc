using Microsoft.Extensions.Logging;

namespace DbLock.ServerTests;

/// <summary>Counts what Npgsql sends, by what it logs.</summary>
internal sealed class RoundTrips : ILoggerFactory, ILogger
{
    public int Count { get; set; }

    public ILogger CreateLogger(string categoryName) => this;

    public void AddProvider(ILoggerProvider provider)
    {
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        Count += formatter(state, exception).Contains("execution completed", StringComparison.Ordinal) ? 1 : 0;

    public void Dispose()
    {
    }
}
