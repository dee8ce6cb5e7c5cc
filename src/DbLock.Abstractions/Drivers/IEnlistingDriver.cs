using System.Data.Common;
using System.Transactions;

namespace DbLock.Drivers;

/// <summary>
/// A driver that can tell in which transaction of System.Transactions a connection is enlisted. Over any other driver a caller's connection
/// is refused inside of a <see cref="TransactionScope"/>.
/// </summary>
public interface IEnlistingDriver : ILockDriver
{
    /// <summary>Finds the transaction of System.Transactions in which a connection is enlisted.</summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="transaction">The transaction; null when the connection is in none.</param>
    /// <returns>False when the provider does not tell.</returns>
    bool TryFindEnlistment(DbConnection connection, out Transaction? transaction);

    /// <summary>
    /// Says whether a connection that was closed while its transaction of System.Transactions is open has left its session to that
    /// transaction, which ends it or gives it back; false (default) where the session is gone, or where that is not known.
    /// </summary>
    /// <param name="connection">A connection that was closed just now.</param>
    bool LeavesSession(DbConnection connection) => false;
}
