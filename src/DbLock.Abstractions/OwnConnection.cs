using System.Data.Common;
using System.Transactions;

namespace DbLock;

/// <summary>Opens the connections that are a lock's own.</summary>
internal static class OwnConnection
{
    /// <summary>Opens a connection outside of any TransactionScope: enlisted in one, its session would be the scope's until that ends, whenever the lock does.</summary>
    public static async ValueTask<DbConnection> Open(DbDataSource dataSource, bool async, CancellationToken cancellationToken)
    {
        if (Transaction.Current is null)
        {
            return async ? await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false) : dataSource.OpenConnection();
        }

        if (!async)
        {
            using var outside = Outside();
            return dataSource.OpenConnection();
        }

        // A scope that does not flow belongs to its thread, and must stay there as it is while this is awaited.
        return await Task.Run(
            async () =>
            {
                using var outside = Outside();
                return await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            },
            cancellationToken).ConfigureAwait(false);
    }

    private static TransactionScope Outside() => new(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled);
}
