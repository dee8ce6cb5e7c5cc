using System.Data;
using System.Data.Common;
using Npgsql;

namespace DbLock;

/// <summary>Sends statements over an <see cref="NpgsqlConnection"/>: positional typed parameters, all commands of a statement in one round trip.</summary>
internal sealed class NpgsqlDriver : ILockDriver
{
    public bool Supports(DbConnection connection) => connection is NpgsqlConnection;

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var batch = new NpgsqlBatch((NpgsqlConnection)connection, (NpgsqlTransaction?)transaction);
        await using (batch.ConfigureAwait(false))
        {
            foreach (var command in statement.Commands)
            {
                batch.BatchCommands.Add(ToNpgsql(command));
            }

            if (statement.CommandTimeout is { } seconds)
            {
                batch.Timeout = seconds;
            }

            return async ? await batch.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false) : batch.ExecuteScalar();
        }
    }

    public DbError Read(Exception exception) => (exception as PostgresException ?? exception.InnerException) switch
    {
        PostgresException error => new DbError(error.SqlState),
        _ => new DbError(null, NotSent: exception is NpgsqlOperationInProgressException or InvalidOperationException or NotSupportedException),
    };

    public int? SessionId(DbConnection connection)
    {
        try
        {
            return ((NpgsqlConnection)connection).ProcessID;
        }
        catch (InvalidOperationException)
        {
            // Npgsql multiplexes, and each command may go to another session. None has this number.
            return -1;
        }
    }

    public void Discard(DbConnection connection)
    {
        // Clearing first makes the pool throw the physical connection away when it comes back, instead of keeping it with its locks.
        NpgsqlConnection.ClearPool((NpgsqlConnection)connection);
        connection.Close();
    }

    private static NpgsqlBatchCommand ToNpgsql(LockCommand command)
    {
        var result = new NpgsqlBatchCommand(command.Sql.Numbered);
        foreach (var parameter in command.Parameters)
        {
            result.Parameters.Add(parameter.Type switch
            {
                DbType.Int32 => new NpgsqlParameter<int> { TypedValue = (int)parameter.Value },
                DbType.Int64 => new NpgsqlParameter<long> { TypedValue = (long)parameter.Value },
                DbType.Double => new NpgsqlParameter<double> { TypedValue = (double)parameter.Value },
                DbType.String => new NpgsqlParameter<string> { TypedValue = (string)parameter.Value },
                _ => new NpgsqlParameter { DbType = parameter.Type, Value = parameter.Value },
            });
        }

        return result;
    }
}
