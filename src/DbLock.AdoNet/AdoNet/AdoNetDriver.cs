using System.Data;
using System.Data.Common;
using System.Net.Sockets;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Transactions;
using Dapper;

namespace DbLock;

/// <summary>
/// Sends statements over any ADO.NET connection through Dapper: named parameters, all commands of a statement in one text.
/// </summary>
internal sealed class AdoNetDriver : IEnlistingDriver
{
    // ODBC has no names for parameters, and has a driver of its own here.
    public bool Supports(DbConnection connection) => !OdbcDriver.IsOdbc(connection);

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        transaction = Wrapper.TransactionOf(connection, transaction);
        if (Session.Kept<DbCommand>(connection, this, ref statement) is { MayPrepare: true } place && statement.MayPrepare)
        {
            var kept = place.Take() ?? new(OneText.ToCommand(connection, statement));
            try
            {
                return await ExecutePrepared(
                    place, kept, connection, transaction, statement, async, cancellationToken).ConfigureAwait(false);
            }
            catch (DbException e) when (place.IsGone(kept, e) && transaction is null)
            {
                // The statement is sent once more below, not prepared. Npgsql must be told as well: it would go on to believe that its
                // statements are prepared, for the next user of a pooled session, too.
                var inner = Wrapper.Innermost(connection);
                inner.GetType().GetMethod("UnprepareAll", [])?.Invoke(inner, null);
            }
        }

        var parameters = new DynamicParameters();
        foreach (var (name, (type, value)) in OneText.NamedParameters(statement))
        {
            parameters.Add(name, value, type);
        }

        // Dapper keeps something for each text for ever, and statements with comments have many texts.
        var flags = statement.Comment is null ? CommandFlags.Buffered : CommandFlags.NoCache;
        var command = new CommandDefinition(
            OneText.Named(statement), parameters, transaction, TimeoutOf(connection, statement, async), flags: flags,
            cancellationToken: cancellationToken);
        var reader = async
            ? await connection.ExecuteReaderAsync(command).ConfigureAwait(false)
            : (DbDataReader)connection.ExecuteReader(command);
        return await LockStatement.ReadAnswer(reader, async, cancellationToken).ConfigureAwait(false);
    }

    public DbError Read(Exception exception) => DbErrorReader.Read(exception);

    // Only Npgsql's connections tell. With Multiplexing each command or transaction may go to another session: the answer is -1, which is
    // no session's number.
    public int? SessionId(DbConnection connection)
    {
        var inner = Wrapper.Innermost(connection);
        if (inner.ConnectionString.Contains("multiplexing", StringComparison.OrdinalIgnoreCase)
            && new DbConnectionStringBuilder { ConnectionString = inner.ConnectionString }.TryGetValue("Multiplexing", out var on)
            && string.Equals(on as string, "true", StringComparison.OrdinalIgnoreCase))
        {
            return -1;
        }

        try
        {
            return DbErrorReader.Property(inner, "ProcessID") as int? ?? ILockDriver.HiddenSession;
        }
        catch (TargetInvocationException)
        {
            // The connection that is seen inside the wrapper is not open, so that the commands go elsewhere.
            return ILockDriver.HiddenSession;
        }
    }

    // Npgsql has one in a member that is not public. Behind a wrapper it is no use, because the commands of a wrapper are its own.
    public object? PhysicalConnection(DbConnection connection) =>
        connection.GetType().Namespace == "Npgsql" ? PrivateMembers.Follow(connection, "Connector") : null;

    // A provider that is not known to heed the token of a command is not trusted to. MySql.Data ignores it (measured with 26.10).
    public bool CanCancel(DbConnection connection) =>
        Wrapper.Innermost(connection).GetType().Namespace
            is "Npgsql" or "Microsoft.Data.SqlClient" or "System.Data.SqlClient" or "MySqlConnector";

    public bool TryFindEnlistment(DbConnection connection, out Transaction? transaction) =>
        Enlistment.TryFind(connection, out transaction);

    // Npgsql does; of the others it is not known. It tells a session that broke from one that was closed in a member of its own.
    public bool LeavesSession(DbConnection connection) =>
        connection.GetType().Namespace == "Npgsql"
        && PrivateMembers.Follow(connection, "FullState") is ConnectionState state && (state & ConnectionState.Broken) == 0;

    public bool CanAbort(DbConnection connection) =>
        Wrapper.Innermost(connection) is var inner && (inner.GetType().Namespace == "Npgsql" || SocketOf(inner) is not null);

    public void Abort(DbConnection connection)
    {
        var inner = Wrapper.Innermost(connection);
        if (SocketOf(inner) is { } socket)
        {
            try
            {
                socket.Shutdown(SocketShutdown.Both);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // The connection has been torn, which ends the command as well.
            }
        }
        else if (PhysicalConnection(inner) is { } connector)
        {
            // This does what NpgsqlDriver.Abort does.
            var reason = new TimeoutException("DbLock has given the connection up, because the server did not answer in time.");
            connector.GetType().GetMethod("Break", BindingFlags.NonPublic | BindingFlags.Instance, [typeof(Exception), typeof(bool)])
                ?.Invoke(connector, [reason, false]);
        }
    }

    public void Discard(DbConnection connection) => ClearPoolAndClose(connection);

    // MySqlConnector's own timer must not run (TimeoutOf). Its time is DefaultCommandTimeout of the connection string, 0 for none.
    public TimeSpan? OwnLimit(DbConnection connection) =>
        Wrapper.Innermost(connection) is var inner && inner.GetType().Namespace == "MySqlConnector"
        && PrivateMembers.Follow(inner, "DefaultCommandTimeout") is int seconds
            ? seconds > 0 ? TimeSpan.FromSeconds(seconds) : Timeout.InfiniteTimeSpan : null;

    // When a command's time is over, MySqlConnector cancels it on a timer's thread, where it throws if the connection was torn meanwhile,
    // and that ends the process (measured with 2.6.2). What has a time here is ended by DbLock's own limit, which throws at nobody; a call
    // that blocks can be ended so where the connection's socket is known.
    private static int? TimeoutOf(DbConnection connection, LockStatement statement, bool async)
    {
        var inner = Wrapper.Innermost(connection);
        return inner.GetType().Namespace switch
        {
            "Npgsql" => statement.LastTimeout(),
            "MySqlConnector" when statement.CommandTimeout is not null && (async || SocketOf(inner) is not null) => 0,
            _ => statement.CommandTimeout,
        };
    }

    // MySqlConnector has it in private members. It is null while the connection is closed, and over a named pipe.
    private static Socket? SocketOf(DbConnection connection) =>
        connection.GetType().Namespace == "MySqlConnector"
            ? PrivateMembers.Follow(connection, "m_session", "m_socket") as Socket : null;

    internal static void ClearPoolAndClose(DbConnection connection)
    {
        // Npgsql, SqlClient, MySqlConnector, MySql.Data and Oracle have a static ClearPool(TConnection), ODBC has ReleaseObjectPool().
        var inner = Wrapper.Innermost(connection);
        var type = inner.GetType();
        var clear = type.GetMethod("ClearPool", BindingFlags.Public | BindingFlags.Static, [type]);
        if (clear is not null)
        {
            clear.Invoke(null, [inner]);
            ClearPoolOfSource(inner);
        }
        else
        {
            type.GetMethod("ReleaseObjectPool", BindingFlags.Public | BindingFlags.Static, [])?.Invoke(null, null);
        }

        connection.Close();
    }

    // ClearPool does nothing for a connection of NpgsqlDataSource or MySqlDataSource, whose pool is the data source's own. The connection
    // keeps its data source in a private member.
    private static void ClearPoolOfSource(DbConnection connection)
    {
        if (connection.GetType().Namespace == "Npgsql" && PrivateMembers.Follow(connection, "NpgsqlDataSource") is { } source)
        {
            source.GetType().GetMethod("Clear", [])?.Invoke(source, null);
        }
        else if (connection.GetType().Namespace == "MySqlConnector"
            && PrivateMembers.Follow(connection, "MySqlDataSource", "Pool") is { } pool
            && pool.GetType().GetMethod("ClearAsync") is { } clear)
        {
            // The first parameter is an enumeration that is not public, whose 0 means that it ends before it returns.
            clear.Invoke(pool, [Enum.ToObject(clear.GetParameters()[0].ParameterType, 0), CancellationToken.None]);
        }
    }

    // This way does without Dapper, which makes each command anew and prepares none.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private static async ValueTask<object?> ExecutePrepared(
        KeptCommands<DbCommand>.Place place, KeptCommands<DbCommand>.Command command, DbConnection connection, DbTransaction? transaction,
        LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        if (command.Value.Connection != connection)
        {
            command.Value.Connection = connection;
        }

        OneText.Fill(command.Value, transaction, statement);
        if (!command.IsPrepared)
        {
            await Prepare(command.Value, async).ConfigureAwait(false);
            command.IsPrepared = true;
        }

        var reader = async
            ? await command.Value.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false)
            : command.Value.ExecuteReader();
        var answer = await LockStatement.ReadAnswer(reader, async, cancellationToken).ConfigureAwait(false);
        place.GiveBack(command);
        return answer;
    }

    // Preparing takes no token, because it does not wait for anybody.
    private static async ValueTask Prepare(DbCommand command, bool async)
    {
        if (async)
        {
            await command.PrepareAsync(CancellationToken.None).ConfigureAwait(false);
        }
        else
        {
            command.Prepare();
        }
    }
}
