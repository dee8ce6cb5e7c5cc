using System.Data.Common;
using DbLock;
using DbLock.Drivers;
using Npgsql;

namespace ThirdParty;

/// <summary>A driver for any provider with named parameters, through nothing but ADO.NET; over Npgsql it hears what the server tells, too.</summary>
public sealed class PlainDriver : IListeningDriver
{
    public bool Supports(DbConnection connection) => true;

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = string.Join("; ", statement.Commands.Select((part, index) => statement.CommentBefore(index) + part.Sql.Named));
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
        return new DbError(error?.SqlState, NotSent: exception is InvalidOperationException or NpgsqlOperationInProgressException);
    }

    // Optional: a pool over this driver hears of releases, and need not ask.
    public async Task Hear(DbConnection connection, Action<string> heard, CancellationToken cancellationToken)
    {
        var npgsql = (NpgsqlConnection)connection;
        npgsql.Notification += OnNotification;
        try
        {
            while (true)
            {
                await npgsql.WaitAsync(cancellationToken);
            }
        }
        finally
        {
            npgsql.Notification -= OnNotification;
        }

        void OnNotification(object sender, NpgsqlNotificationEventArgs notification) => heard(notification.Payload);
    }

    // Optional, and worth its line: the connection of a session that must not live on is not given back to the pool.
    public void Discard(DbConnection connection)
    {
        NpgsqlConnection.ClearPool((NpgsqlConnection)connection);
        connection.Close();
    }
}
