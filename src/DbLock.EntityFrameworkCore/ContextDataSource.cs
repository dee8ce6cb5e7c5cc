using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;

namespace DbLock;

/// <summary>Connections like the one of a context, password and all, for locks that have one of their own.</summary>
internal sealed class ContextDataSource(DatabaseFacade database) : DbDataSource
{
    public override string ConnectionString => database.GetConnectionString() ?? "";

    protected override DbConnection CreateDbConnection()
    {
        // A connection that was open does not tell its password, but gives it to its clone.
        var like = database.GetDbConnection();
        if (like is ICloneable cloneable)
        {
            return (DbConnection)cloneable.Clone();
        }

        var connection = DbProviderFactories.GetFactory(like)?.CreateConnection()
            ?? throw new NotSupportedException(
                $"Another connection like the context's {like.GetType().FullName} cannot be made, since it has neither Clone nor a "
                + "provider factory: acquire the lock from a data source of your own (dataSource.AcquireLockAsync).");
        connection.ConnectionString = ConnectionString;
        return connection;
    }
}
