using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A time in which a context's connection is kept open and has a lock_timeout of its own, until its disposal.</summary>
/// <remarks>As <see cref="LockTimeoutScope"/>: disposal gives back what was there before.</remarks>
public sealed class DbContextLockTimeout : IDisposable, IAsyncDisposable
{
    private readonly KeptOpen _connection;
    private readonly LockTimeoutScope _scope;

    internal DbContextLockTimeout(KeptOpen connection, LockTimeoutScope scope) => (_connection, _scope) = (connection, scope);

    /// <summary>Gives back the lock_timeout that was there before, and lets the context close its connection.</summary>
    public void Dispose() => Completed(Dispose(async: false));

    /// <inheritdoc cref="Dispose()"/>
    public ValueTask DisposeAsync() => Dispose(async: true);

    private async ValueTask Dispose(bool async)
    {
        await _scope.Dispose(async).ConfigureAwait(false);
        await _connection.Close(async).ConfigureAwait(false);
    }
}
