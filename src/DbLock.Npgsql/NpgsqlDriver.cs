using System.Data;
using System.Data.Common;
using System.Runtime.CompilerServices;
using Npgsql;

namespace DbLock;

/// <summary>Sends statements over an <see cref="NpgsqlConnection"/>: positional typed parameters, all commands of a statement in one round trip.</summary>
internal sealed class NpgsqlDriver : ILockDriver
{
    public bool Supports(DbConnection connection) => connection is NpgsqlConnection;

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        await LockTimeouts.Pay((NpgsqlConnection)connection, async).ConfigureAwait(false);
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

            var reader = async ? await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false) : batch.ExecuteReader();
            return await LockStatement.ReadAnswer(reader, async, cancellationToken).ConfigureAwait(false);
        }
    }

    public DbError Read(Exception exception) => exception switch
    {
        PostgresException error => new DbError(error.SqlState),
        { InnerException: PostgresException error } => new DbError(error.SqlState),

        // A cancel that came before anything was sent has no answer of the server's inside.
        OperationCanceledException { InnerException: null } => new DbError(null, NotSent: true),
        _ => new DbError(null, NotSent: exception is NpgsqlOperationInProgressException or InvalidOperationException or NotSupportedException),
    };

    // With Multiplexing each command or transaction may go to another session. None has the number -1.
    public int? SessionId(DbConnection connection) =>
        connection.ConnectionString.Contains("multiplexing", StringComparison.OrdinalIgnoreCase)
        && new NpgsqlConnectionStringBuilder(connection.ConnectionString).Multiplexing
            ? -1
            : ((NpgsqlConnection)connection).ProcessID;

    public void Discard(DbConnection connection)
    {
        // Clearing first makes the pool throw the physical connection away when it comes back, instead of keeping it with its locks.
        var npgsql = (NpgsqlConnection)connection;
        NpgsqlConnection.ClearPool(npgsql);
        DataSource(npgsql)?.Clear();
        connection.Close();
    }

    // ClearPool does nothing for the connection of an NpgsqlDataSource, and Npgsql shows nobody which one that is.
    private static NpgsqlDataSource? DataSource(NpgsqlConnection connection)
    {
        try
        {
            return DataSourceField(connection);
        }
        catch (MissingFieldException)
        {
            return null;
        }
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_dataSource")]
    private static extern ref NpgsqlDataSource? DataSourceField(NpgsqlConnection connection);

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
