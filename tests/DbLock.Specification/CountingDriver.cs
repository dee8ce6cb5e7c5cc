using System.Data.Common;

namespace DbLock.Specification;

/// <summary>A driver that counts the statements which another one sends.</summary>
public sealed class CountingDriver(ILockDriver driver) : ILockDriver
{
    public int Count { get; private set; }

    public bool Supports(DbConnection connection) => driver.Supports(connection);

    public ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        Count++;
        return driver.Execute(connection, transaction, statement, async, cancellationToken);
    }

    public DbError Read(Exception exception) => driver.Read(exception);
}
