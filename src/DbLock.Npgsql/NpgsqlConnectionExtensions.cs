using Npgsql;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>What PostgreSQL alone can do, from a connection.</summary>
public static class NpgsqlConnectionExtensions
{
    /// <summary>Makes a lock on tables, to be acquired inside a transaction. Nothing is sent to the server.</summary>
    /// <param name="connection">The connection whose transaction will hold the lock.</param>
    /// <param name="mode">How strong the lock is.</param>
    /// <param name="tables">The tables, one or more.</param>
    /// <exception cref="ArgumentException">There is no table.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mode is none that can be asked for.</exception>
    public static TableLock CreateTableLock(this NpgsqlConnection connection, PgLockMode mode, params IEnumerable<TableName> tables) =>
        new(connection, mode, tables);

    /// <summary>
    /// Sets how long each lock that a statement needs may be waited for, until the scope is disposed: then it is as before.
    /// </summary>
    /// <param name="connection">The connection, open.</param>
    /// <param name="timeout">More than zero and up to about 24 days, rounded up to milliseconds; <see cref="Timeout.InfiniteTimeSpan"/>
    /// waits for ever. Zero is refused, because the server means for ever by it.</param>
    /// <param name="trustPooler">True where the pooler between is in session mode. Inside a transaction it does not matter.</param>
    /// <remarks>
    /// <para>
    /// Inside a transaction the setting is local to it, else it is the session's.
    /// <see href="https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT"/>.
    /// </para>
    /// <para>In a REPEATABLE READ or SERIALIZABLE transaction this takes the snapshot: open the scope before the transaction begins.</para>
    /// </remarks>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is zero, negative or longer than the server can count.</exception>
    /// <exception cref="LockException">A pooler stands between, and no transaction is open. Nothing was set.</exception>
    /// <exception cref="InvalidOperationException">The connection is closed.</exception>
    public static LockTimeoutScope LockTimeout(this NpgsqlConnection connection, TimeSpan timeout, bool trustPooler = false)
    {
        ArgumentNullException.ThrowIfNull(connection);
        return Completed(LockTimeouts.Open(connection, timeout, trustPooler, async: false));
    }

    /// <inheritdoc cref="LockTimeout" path="/summary"/>
    /// <inheritdoc cref="LockTimeout" path="/remarks"/>
    /// <inheritdoc cref="LockTimeout" path="/exception"/>
    /// <param name="connection">The connection, open.</param>
    /// <param name="timeout">As for <see cref="LockTimeout"/>.</param>
    /// <param name="trustPooler">As for <see cref="LockTimeout"/>.</param>
    /// <param name="cancellationToken">Looked at before anything is sent; what is sent is short, and not interrupted.</param>
    public static ValueTask<LockTimeoutScope> LockTimeoutAsync(
        this NpgsqlConnection connection, TimeSpan timeout, bool trustPooler = false, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(connection);
        cancellationToken.ThrowIfCancellationRequested();
        return LockTimeouts.Open(connection, timeout, trustPooler, async: true);
    }
}
