using System.Data.Common;
using DbLock;
using DbLock.Drivers;

namespace ThirdParty;

/// <summary>A driver for any provider with named parameters, through nothing but ADO.NET.</summary>
public sealed class PlainDriver : ILockDriver
{
    public bool Supports(DbConnection connection) => true;

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = string.Join("; ", statement.Commands.Select(part => part.Sql.Named));
        command.Transaction = transaction;
        command.CommandTimeout = statement.CommandTimeout ?? command.CommandTimeout;
        foreach (var (index, (type, value)) in statement.Commands.SelectMany(part => part.Parameters).Index())
        {
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.DbType, parameter.Value) = ($"p{index}", type, value);
            command.Parameters.Add(parameter);
        }

        // Not ExecuteScalar: it may swallow what happens after the first value.
        return await LockStatement.ReadAnswer(async ? await command.ExecuteReaderAsync(cancellationToken) : command.ExecuteReader(), async, cancellationToken);
    }

    // Npgsql fills DbException.SqlState, and gives its own type to a command that it did not send.
    public DbError Read(Exception exception)
    {
        var error = exception as DbException ?? exception.InnerException as DbException;
        return new DbError(error?.SqlState, NotSent: exception is InvalidOperationException or Npgsql.NpgsqlOperationInProgressException);
    }

    // Optional, and worth its line: the connection of a session that must not live on is not given back to the pool.
    public void Discard(DbConnection connection)
    {
        Npgsql.NpgsqlConnection.ClearPool((Npgsql.NpgsqlConnection)connection);
        connection.Close();
    }
}
