using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;

namespace DbLock;

/// <summary>Connections like the one of a context, password and all, for locks that have one of their own.</summary>
/// <remarks>
/// They are like the one that the context has when this is made: a context that is led to another database later takes no lease with it.
/// </remarks>
internal sealed class ContextDataSource : DbDataSource
{
    private readonly Func<DbConnection> _create;

    public ContextDataSource(DatabaseFacade database)
    {
        ConnectionString = database.GetConnectionString() ?? "";
        var like = database.GetDbConnection();
        if (like is ICloneable cloneable)
        {
            // A connection that was open does not tell its password, but gives it to its clone.
            var model = (ICloneable)cloneable.Clone();
            _create = () => (DbConnection)model.Clone();
            return;
        }

        var factory = DbProviderFactories.GetFactory(like)
            ?? throw new NotSupportedException(
                $"Another connection like the context's {like.GetType().FullName} cannot be made, since it has neither Clone nor a "
                + "provider factory: acquire the lock from a data source of your own (dataSource.AcquireLockAsync).");
        _create = () =>
        {
            var connection = factory.CreateConnection()!;
            connection.ConnectionString = ConnectionString;
            return connection;
        };
    }

    public override string ConnectionString { get; }

    protected override DbConnection CreateDbConnection() => _create();
}
