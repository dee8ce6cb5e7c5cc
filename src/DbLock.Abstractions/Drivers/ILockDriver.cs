using System.Data.Common;

namespace DbLock.Drivers;

/// <summary>A way to send a statement over a connection that the caller has. It does not know what a lock is.</summary>
/// <remarks><b>Threads.</b> A driver has no state and is shared by every lock. A connection is used by one call at a time.</remarks>
public interface ILockDriver
{
    /// <summary>
    /// What <see cref="SessionId"/> returns for a connection that should show its session and does not: inside a wrapper that cannot be
    /// seen through. No session has this number, and session scope is refused where a pooler may stand between.
    /// </summary>
    const int HiddenSession = -2;

    /// <summary>Says whether this driver can use a connection.</summary>
    /// <param name="connection">The connection, open or not.</param>
    bool Supports(DbConnection connection);

    /// <summary>
    /// Sends a statement, in one round trip where it can, and returns the first value of the first row that comes back, or null.
    /// </summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="transaction">The caller's transaction, to put on every command; null when there is none.</param>
    /// <param name="statement">The statement. Its <see cref="LockStatement.CommandTimeout"/> must be heeded.</param>
    /// <param name="async">
    /// False: return a completed task, having blocked as long as it took. True: never block a thread while the server waits.
    /// </param>
    /// <param name="cancellationToken">Cancels the wait, and returns only when the server has answered or the connection is broken.</param>
    ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken);

    /// <summary>Reads the codes of an exception that <see cref="Execute"/> threw.</summary>
    /// <param name="exception">The exception.</param>
    DbError Read(Exception exception);

    /// <summary>
    /// Returns the server session that the client believes it speaks to; null when the provider does not tell, negative for none.
    /// </summary>
    /// <param name="connection">An open connection.</param>
    int? SessionId(DbConnection connection) => null;

    /// <summary>
    /// Returns the provider's object for the physical connection that its pool gives to one <see cref="DbConnection"/> after another; null
    /// (default) where it shows none. What is known of the server's session, and what is prepared in it, is then known again to the next
    /// connection of the pool.
    /// </summary>
    /// <param name="connection">An open connection.</param>
    object? PhysicalConnection(DbConnection connection) => null;

    /// <summary>
    /// Returns the name of the server's product, such as "MariaDB", when neither the connection's type, the server's version nor the
    /// provider's schema tells it; null (default) when the provider does not tell either.
    /// </summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="transaction">The caller's transaction, to put on a command that asks the server; null when there is none.</param>
    string? ServerProduct(DbConnection connection, DbTransaction? transaction) => null;

    /// <summary>
    /// Says whether <see cref="Execute"/> can be cancelled on a connection. Where it cannot, a wait that may be cancelled is cut into short
    /// ones.
    /// </summary>
    /// <param name="connection">An open connection.</param>
    bool CanCancel(DbConnection connection) => true;

    /// <summary>Says whether <see cref="Abort"/> ends a command on a connection; false (default) where it does nothing.</summary>
    /// <param name="connection">An open connection.</param>
    bool CanAbort(DbConnection connection) => false;

    /// <summary>
    /// Ends, from beside, a command that owes an answer for which nobody waits any more: <see cref="Execute"/> then fails soon. It may
    /// block, and must not throw. By default nothing is done, and the connection is discarded when the answer has come.
    /// </summary>
    /// <param name="connection">The connection.</param>
    void Abort(DbConnection connection)
    {
    }

    /// <summary>
    /// Returns how long DbLock itself waits for the answer to a statement that has no time of its own, over a provider whose own command
    /// timeout must not run: <see cref="Timeout.InfiniteTimeSpan"/> for ever; null (default) leaves that to the provider.
    /// </summary>
    /// <param name="connection">An open connection.</param>
    TimeSpan? OwnLimit(DbConnection connection) => null;

    /// <summary>Closes a connection so that its session cannot be taken from a pool again.</summary>
    /// <param name="connection">The connection, perhaps closed already.</param>
    void Discard(DbConnection connection)
    {
        ArgumentNullException.ThrowIfNull(connection);
        connection.Close();
    }
}
