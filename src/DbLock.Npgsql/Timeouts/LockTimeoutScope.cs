using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A time in which a connection has a lock_timeout of its own, from <c>connection.LockTimeout(…)</c> to its disposal.</summary>
/// <remarks>
/// <para>Disposal gives back exactly what was there before. It is idempotent, and never throws because the connection is dead, closed or
/// busy or its transaction has failed: a closed connection has nothing to give back, and in the other cases it is done at the next use of
/// the connection by DbLock (a lock over the Npgsql driver, a table lock, another scope) or by disposing the scope once more. The same
/// holds where the scope was opened before the transaction in which it is disposed, since a rollback would undo what was given back.</para>
/// <para><b>Threads.</b> A scope, like its connection, is used by one call at a time.</para>
/// </remarks>
public sealed class LockTimeoutScope : IDisposable, IAsyncDisposable
{
    private readonly LockTimeouts _timeouts;

    internal LockTimeoutScope(LockTimeouts timeouts, string before, string value, long transaction)
    {
        _timeouts = timeouts;
        Before = before;
        Value = value;
        Transaction = transaction;
    }

    /// <summary>Gets or sets what is to be given back.</summary>
    internal string Before { get; set; }

    /// <summary>Gets what the scope has set, as the server writes it.</summary>
    internal string Value { get; }

    /// <summary>Gets the transaction that the setting is local to and ends with; 0 when it is the session's.</summary>
    internal long Transaction { get; }

    /// <summary>Gives back the lock_timeout that was there before.</summary>
    public void Dispose() => Completed(_timeouts.Close(this, async: false));

    /// <inheritdoc cref="Dispose"/>
    public async ValueTask DisposeAsync() => await _timeouts.Close(this, async: true).ConfigureAwait(false);
}
