namespace DbLock;

/// <summary>The priority of a context's session over those who hold what it waits for, until it is disposed.</summary>
/// <remarks>As <see cref="PgPriority"/>. The context's connection is kept open so long.</remarks>
public sealed class DbContextPriority : IAsyncDisposable
{
    private readonly KeptOpen _connection;
    private readonly PgPriority _priority;

    internal DbContextPriority(KeptOpen connection, PgPriority priority) => (_connection, _priority) = (connection, priority);

    /// <inheritdoc cref="PgPriority.Cleared"/>
    public PgClearResult Cleared => _priority.Cleared;

    /// <inheritdoc cref="PgPriority.Error"/>
    public Exception? Error => _priority.Error;

    /// <inheritdoc cref="PgPriority.StopAsync"/>
    public Task<PgClearResult> StopAsync() => _priority.StopAsync();

    /// <summary>
    /// Ends the priority: when this is done, nobody is signalled any more. It does not throw, and lets the context close its connection.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        await _priority.DisposeAsync().ConfigureAwait(false);
        await _connection.Close(async: true).ConfigureAwait(false);
    }
}
