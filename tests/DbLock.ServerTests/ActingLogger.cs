using Microsoft.Extensions.Logging;

namespace DbLock.ServerTests;

/// <summary>A logger that does something each time it is told anything.</summary>
internal sealed class ActingLogger(Action act) : ILogger
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => act();
}
