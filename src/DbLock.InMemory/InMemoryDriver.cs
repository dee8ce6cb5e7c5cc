using System.Data.Common;

namespace DbLock;

/// <summary>Carries statements to a server in memory.</summary>
internal sealed class InMemoryDriver : ILockDriver
{
    public bool Supports(DbConnection connection) => connection is InMemoryConnection;

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var (memory, command) = ((InMemoryConnection)connection, statement.Commands[0]);
        var parameters = command.Parameters;
        memory.CheckTransaction(transaction);
        try
        {
            if (command.Sql == InMemoryDialect.AcquireSql)
            {
                var (milliseconds, shared, inTransaction) = ((long)parameters[0].Value, Flag(1), Flag(2));
                var timeout = milliseconds < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromMilliseconds(milliseconds);
                return await memory.Session.Acquire(Names(3), shared, inTransaction ? transaction : null, timeout, async, cancellationToken).ConfigureAwait(false) ? 1 : 0;
            }

            return command.Sql == InMemoryDialect.IsHeldSql ? (memory.Session.IsHeld(Names(1), Flag(0)) ? 1 : 0)
                : command.Sql == InMemoryDialect.ReleaseSql ? (memory.Session.Release(Names(1), Flag(0)) ? 1 : 0)
                : command.Sql == InMemoryDialect.UndoSql ? 0
                : throw new NotSupportedException($"A connection in memory understands DbLock's own statements and no SQL, so not this one: {command.Sql}");
        }
        catch (InMemoryException e) when (e.SqlState == InMemoryException.SessionEnded)
        {
            memory.Break();
            throw;
        }

        bool Flag(int index) => (int)parameters[index].Value == 1;

        string[] Names(int first) => [.. parameters.Skip(first).Select(parameter => (string)parameter.Value)];
    }

    public DbError Read(Exception exception) => exception switch
    {
        InMemoryException error => new DbError(error.SqlState),
        _ => new DbError(null, NotSent: exception is InvalidOperationException or NotSupportedException),
    };
}
