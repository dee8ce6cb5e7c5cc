using System.Data.Common;
using System.Transactions;

namespace DbLock;

/// <summary>
/// Where the known providers keep the transaction of System.Transactions that a connection is enlisted in: in members that are not public,
/// for which there is no other way.
/// </summary>
internal static class Enlistment
{
    /// <summary>Finds the transaction; null when the connection is enlisted in none.</summary>
    /// <returns>False when the provider, or its version, does not show it.</returns>
    public static bool TryFind(DbConnection connection, out Transaction? transaction)
    {
        transaction = null;
        var inner = Wrapper.Innermost(connection);
        string[]? path = inner.GetType().Namespace switch
        {
            "Npgsql" => ["EnlistedTransaction"],
            "Microsoft.Data.SqlClient" or "System.Data.SqlClient" => ["InnerConnection", "EnlistedTransaction"],
            "MySqlConnector" => ["m_enlistedTransaction", "Transaction"],
            "MySql.Data.MySqlClient" => ["driver", "currentTransaction", "BaseTransaction"],
            _ => null,
        };
        if (path is null || !PrivateMembers.TryFollow(inner, path, out var place))
        {
            return false;
        }

        transaction = place as Transaction;
        return place is null or Transaction;
    }
}
