using System.Data;
using System.Data.Common;
using System.Runtime.CompilerServices;
using System.Transactions;
using Npgsql;

namespace DbLock;

/// <summary>
/// Sends statements over an <see cref="NpgsqlConnection"/>: positional typed parameters, all commands of a statement in one round trip.
/// </summary>
internal sealed class NpgsqlDriver : IListeningDriver, IEnlistingDriver
{
    public bool Supports(DbConnection connection) => connection is NpgsqlConnection;

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var npgsql = (NpgsqlConnection)connection;
        await LockTimeouts.Pay(npgsql, async).ConfigureAwait(false);
        var place = Session.Kept<NpgsqlBatch>(npgsql, this, ref statement);
        while (true)
        {
            var command = place?.Take() ?? new(ToNpgsql(npgsql, statement));
            var batch = command.Value;
            Fill(batch, statement);
            batch.Connection = npgsql;
            batch.Transaction = (NpgsqlTransaction?)Wrapper.TransactionOf(npgsql, transaction);
            batch.Timeout = statement.LastTimeout() ?? npgsql.CommandTimeout;
            try
            {
                if (place is { MayPrepare: true } && statement.MayPrepare && !command.IsPrepared)
                {
                    await Prepare(batch, async).ConfigureAwait(false);
                    command.IsPrepared = true;
                }

                var reader = async ? await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false) : batch.ExecuteReader();
                var answer = await LockStatement.ReadAnswer(reader, async, cancellationToken).ConfigureAwait(false);
                place?.GiveBack(command);
                return answer;
            }
            catch (PostgresException e) when (place?.IsGone(command, e) == true && transaction is null)
            {
                // The statement is sent once more, not prepared. Npgsql must be told as well: it would go on to believe that its statements
                // are prepared, for the next user of a pooled session, too. It can be told only synchronously, but that waits for nobody.
                npgsql.UnprepareAll();
            }
        }
    }

    public DbError Read(Exception exception) => exception switch
    {
        PostgresException error => new DbError(error.SqlState),
        { InnerException: PostgresException error } => new DbError(error.SqlState),

        // A cancel that came before anything was sent has no answer of the server's inside.
        OperationCanceledException { InnerException: null } => new DbError(null, NotSent: true),

        // Npgsql 10.0 opens connections that are broken inside, when the peer resets the first one because of the encryption that was asked
        // for. Nobody knows what was sent.
        ObjectDisposedException => default,
        _ => new DbError(
            null, NotSent: exception is NpgsqlOperationInProgressException or InvalidOperationException or NotSupportedException),
    };

    // With Multiplexing each command or transaction may go to another session: the answer is -1, which is no session's number.
    public int? SessionId(DbConnection connection) =>
        connection.ConnectionString.Contains("multiplexing", StringComparison.OrdinalIgnoreCase)
        && new NpgsqlConnectionStringBuilder(connection.ConnectionString).Multiplexing
            ? -1
            : ((NpgsqlConnection)connection).ProcessID;

    public object? PhysicalConnection(DbConnection connection)
    {
        try
        {
            return connection is NpgsqlConnection npgsql ? Connector(npgsql) : null;
        }
        catch (MissingMethodException)
        {
            return null;
        }
    }

    public bool TryFindEnlistment(DbConnection connection, out Transaction? transaction)
    {
        try
        {
            transaction = EnlistedTransaction((NpgsqlConnection)connection);
            return true;
        }
        catch (MissingMethodException)
        {
            transaction = null;
            return false;
        }
    }

    public async Task Hear(DbConnection connection, Action<string> heard, CancellationToken cancellationToken)
    {
        var npgsql = (NpgsqlConnection)connection;
        npgsql.Notification += OnNotification;
        try
        {
            while (true)
            {
                await Wait(npgsql, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            npgsql.Notification -= OnNotification;
        }

        void OnNotification(object sender, NpgsqlNotificationEventArgs notification) => heard(notification.Payload);
    }

    // Npgsql 10.0 loses a cancel that comes while a wait begins, and then waits on (measured). So the two come one after the other.
    private static async Task Wait(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        using var cancel = new CancellationTokenSource();
        var gate = new System.Threading.Lock();
        using var registration = cancellationToken.UnsafeRegister(_ => CancelUnderGate(), null);
        Task waiting;
        lock (gate)
        {
            cancellationToken.ThrowIfCancellationRequested();
            waiting = connection.WaitAsync(cancel.Token);
        }

        await waiting.ConfigureAwait(false);

        void CancelUnderGate()
        {
            lock (gate)
            {
                cancel.Cancel();
            }
        }
    }

    public bool LeavesSession(DbConnection connection) =>
        (((NpgsqlConnection)connection).FullState & ConnectionState.Broken) == 0;

    public bool CanAbort(DbConnection connection) => true;

    // Closing a connection that waits for an answer would wait with it. Breaking it ends its wait.
    public void Abort(DbConnection connection)
    {
        try
        {
            if (Connector((NpgsqlConnection)connection) is { } connector)
            {
                var reason = new TimeoutException("DbLock has given the connection up, because the server did not answer in time.");
                Break(connector, reason, false);
            }
        }
        catch (MissingMethodException)
        {
            // This version of Npgsql has no such member. The command ends with its own timeout.
        }
    }

    public void Discard(DbConnection connection)
    {
        // The pool is cleared before the close, so that it throws the physical connection away instead of keeping it with its locks.
        var npgsql = (NpgsqlConnection)connection;
        NpgsqlConnection.ClearPool(npgsql);
        DataSource(npgsql)?.Clear();
        connection.Close();
    }

    // ClearPool does nothing for the connection of an NpgsqlDataSource, and Npgsql keeps the data source in a private field.
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

    // None of these members of Npgsql is public.
    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_Connector")]
    [return: UnsafeAccessorType("Npgsql.Internal.NpgsqlConnector, Npgsql")]
    private static extern object? Connector(NpgsqlConnection connection);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "Break")]
    private static extern Exception Break(
        [UnsafeAccessorType("Npgsql.Internal.NpgsqlConnector, Npgsql")] object connector, Exception reason, bool isOther);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_EnlistedTransaction")]
    private static extern Transaction? EnlistedTransaction(NpgsqlConnection connection);

    // Preparing takes no token, because it does not wait for anybody.
    private static async ValueTask Prepare(NpgsqlBatch batch, bool async)
    {
        if (async)
        {
            await batch.PrepareAsync(CancellationToken.None).ConfigureAwait(false);
        }
        else
        {
            batch.Prepare();
        }
    }

    private static NpgsqlBatch ToNpgsql(NpgsqlConnection connection, LockStatement statement)
    {
        var batch = new NpgsqlBatch(connection);
        for (var i = 0; i < statement.Commands.Length; i++)
        {
            var command = statement.Commands[i];
            var result = new NpgsqlBatchCommand(statement.CommentBefore(i) + command.Sql.Numbered);
            foreach (var parameter in command.Parameters)
            {
                result.Parameters.Add(parameter.Type switch
                {
                    DbType.Int32 => new NpgsqlParameter<int>(),
                    DbType.Int64 => new NpgsqlParameter<long>(),
                    DbType.Double => new NpgsqlParameter<double>(),
                    DbType.String => new NpgsqlParameter<string>(),
                    _ => new NpgsqlParameter { DbType = parameter.Type },
                });
            }

            batch.BatchCommands.Add(result);
        }

        return batch;
    }

    private static void Fill(NpgsqlBatch batch, LockStatement statement)
    {
        for (var i = 0; i < statement.Commands.Length; i++)
        {
            var parameters = batch.BatchCommands[i].Parameters;
            for (var n = 0; n < parameters.Count; n++)
            {
                var value = statement.Commands[i].Parameters[n].Value;
                switch (parameters[n])
                {
                    case NpgsqlParameter<int> parameter:
                        parameter.TypedValue = (int)value;
                        break;
                    case NpgsqlParameter<long> parameter:
                        parameter.TypedValue = (long)value;
                        break;
                    case NpgsqlParameter<double> parameter:
                        parameter.TypedValue = (double)value;
                        break;
                    case NpgsqlParameter<string> parameter:
                        parameter.TypedValue = (string)value;
                        break;
                    case var parameter:
                        parameter.Value = value;
                        break;
                }
            }
        }
    }
}
