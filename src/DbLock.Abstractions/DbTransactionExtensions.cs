using System.Data.Common;

namespace DbLock;

internal static class DbTransactionExtensions
{
    extension(DbTransaction transaction)
    {
        /// <summary>Says whether a transaction has neither been committed nor rolled back.</summary>
        public bool IsOpen()
        {
            try
            {
                // The convention of ADO.NET: a completed transaction has no connection. Npgsql's keeps it, but does not tell its isolation level.
                return transaction.Connection is not null && Enum.IsDefined(transaction.IsolationLevel);
            }
            catch (InvalidOperationException)
            {
                return false;
            }
        }
    }
}
