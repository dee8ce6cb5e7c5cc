using System.Data.Common;
using System.Transactions;

namespace DbLock;

internal static class DbTransactionExtensions
{
    extension(DbTransaction transaction)
    {
        /// <summary>Says whether a transaction was neither committed nor rolled back.</summary>
        public bool IsOpen()
        {
            try
            {
                // By the convention of ADO.NET a completed transaction has no connection. Npgsql's keeps it, but no longer tells its
                // isolation level; and a wrapper may keep its own.
                var inner = Wrapper.Innermost(transaction);
                return inner.Connection is not null && Enum.IsDefined(inner.IsolationLevel);
            }
            catch (InvalidOperationException)
            {
                return false;
            }
        }
    }

    extension(Transaction transaction)
    {
        /// <summary>Says whether a transaction was neither committed nor rolled back, and is not being committed at this moment.</summary>
        public bool IsOpen()
        {
            try
            {
                return transaction.TransactionInformation.Status == TransactionStatus.Active;
            }
            catch (ObjectDisposedException)
            {
                return false;
            }
        }
    }
}
