using System.Data.Common;
using System.Transactions;

namespace DbLock;

/// <summary>Sends statements over an <c>OdbcConnection</c>: positional markers, and no asynchrony of its own.</summary>
internal sealed class OdbcDriver : IEnlistingDriver
{
    // A cancel that reaches ODBC before the command is running does nothing, so it is said again until the command has ended.
    private static readonly TimeSpan CancelAgain = TimeSpan.FromMilliseconds(50);

    private static readonly LockSql ServerVersion = new("select version()");

    public bool Supports(DbConnection connection) => IsOdbc(connection);

    public ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken) =>
        async && statement.Wait is not null
            ? new ValueTask<object?>(ExecuteOnThread(connection, transaction, statement, cancellationToken))
            : new ValueTask<object?>(Execute(connection, transaction, statement, null));

    public DbError Read(Exception exception) => DbErrorReader.Read(exception);

    // The file of the ODBC driver tells which server it is for. GetSchema needs a culture that the globalization-invariant mode does not
    // have.
    public string? ServerProduct(DbConnection connection, DbTransaction? transaction)
    {
        var file = DriverFile(connection);
        if (IsFor(file, "maodbc", "myodbc"))
        {
            // Both drivers connect to both servers, and the two tell names apart in different ways.
            var version = new LockStatement(new LockCommand(ServerVersion));
            return Execute(connection, transaction, version, null) is string text
                && text.Contains("MariaDB", StringComparison.OrdinalIgnoreCase) ? "MariaDB" : "MySQL";
        }

        return IsFor(file, "psqlodbc") ? "PostgreSQL" : IsFor(file, "tdsodbc", "msodbcsql", "sqlncli", "sqlsrv") ? "SQL Server" : null;
    }

    // SQLCancel of MySQL's and MariaDB's drivers frees the statement's result when the server has just answered, while the thread that
    // waited reads it: the process crashes or hangs (measured with MariaDB Connector/ODBC 3.1.15). That of FreeTDS hangs, too, or ends the
    // session.
    public bool CanCancel(DbConnection connection) => !IsFor(DriverFile(connection), "maodbc", "myodbc", "tdsodbc");

    // System.Data.Odbc enlists in nothing.
    public bool TryFindEnlistment(DbConnection connection, out Transaction? transaction)
    {
        transaction = null;
        return true;
    }

    public void Discard(DbConnection connection) => AdoNetDriver.ClearPoolAndClose(connection);

    internal static bool IsOdbc(DbConnection connection)
    {
        for (var type = Wrapper.Innermost(connection).GetType(); type is not null; type = type.BaseType)
        {
            if (type.FullName == "System.Data.Odbc.OdbcConnection")
            {
                return true;
            }
        }

        return false;
    }

    private static string DriverFile(DbConnection connection) =>
        DbErrorReader.Property(Wrapper.Innermost(connection), "Driver") as string ?? "";

    private static bool IsFor(string file, params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (file.Contains(name, StringComparison.OrdinalIgnoreCase))
            {
                return true;
            }
        }

        return false;
    }

    // ODBC blocks its caller. A thread of its own waits here, so that none of the pool's does, and takes care of the cancel.
    private Task<object?> ExecuteOnThread(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, CancellationToken cancellationToken)
    {
        var answer = new TaskCompletionSource<object?>(TaskCreationOptions.RunContinuationsAsynchronously);
        var thread = new Thread(() =>
        {
            try
            {
                answer.SetResult(ExecuteCancellable(connection, transaction, statement, cancellationToken));
            }
            catch (Exception e)
            {
                answer.SetException(e);
            }
        })
        {
            IsBackground = true,
            Name = "DbLock: waiting for a lock over ODBC",
        };
        thread.Start();
        return answer.Task;
    }

    private object? ExecuteCancellable(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, CancellationToken cancellationToken)
    {
        if (!cancellationToken.CanBeCanceled)
        {
            return Execute(connection, transaction, statement, null);
        }

        var gate = new System.Threading.Lock();
        DbCommand? running = null;
        Timer? cancel = null;
        cancel = new Timer(_ =>
        {
            // The gate keeps the command from ending while it is cancelled, so that a cancel cannot hit the next command. The next cancel
            // is due only when this one has ended.
            lock (gate)
            {
                if (running is not null)
                {
                    TryCancel(running);
                    cancel!.Change(CancelAgain, Timeout.InfiniteTimeSpan);
                }
            }
        });
        using var timer = cancel;
        cancellationToken.ThrowIfCancellationRequested();
        using var registration = cancellationToken.UnsafeRegister(_ => cancel.Change(TimeSpan.Zero, Timeout.InfiniteTimeSpan), null);
        return Execute(connection, transaction, statement, command =>
        {
            lock (gate)
            {
                running = command;
            }
        });
    }

    // A driver's SQLCancel may fail. Nobody would catch the exception on the timer's thread, and the process would end.
    private static void TryCancel(DbCommand command)
    {
        try
        {
            command.Cancel();
        }
        catch (Exception)
        {
            // It is cancelled again soon.
        }
    }

    // All commands are one text, which psqlODBC sends in one round trip. When a command fails that is a text of its own, psqlODBC rolls
    // back the whole transaction, and silently begins another, if it sees nothing in it to save. The drivers of MySQL and MariaDB take one
    // command in a text, unless the connection was set up for more.
    private object? Execute(DbConnection connection, DbTransaction? transaction, LockStatement statement, Action<DbCommand?>? running) =>
        statement.Commands.Length > 1 && IsFor(DriverFile(connection), "maodbc", "myodbc")
            ? statement.Commands.Aggregate(
                default(object),
                (answer, command) =>
                {
                    var one = statement with { Commands = [command] };
                    return answer ?? ExecuteText(connection, transaction, one, running);
                })
            : ExecuteText(connection, transaction, statement, running);

    private object? ExecuteText(DbConnection connection, DbTransaction? transaction, LockStatement statement, Action<DbCommand?>? running)
    {
        // The statement of a wait that was cancelled is in no state to be used again (psqlODBC: "The cursor is open").
        var place = running is null ? Session.Kept<DbCommand>(connection, this, statement) : null;
        var command = place?.Take() ?? new(connection.CreateCommand());
        try
        {
            var isAsBefore = OneText.Write(command.Value, Wrapper.TransactionOf(connection, transaction), statement);
            running?.Invoke(command.Value);
            var answer = Synchronously.Completed(
                LockStatement.ReadAnswer(command.Value.ExecuteReader(), async: false, CancellationToken.None));
            if (place is not null && isAsBefore)
            {
                place.GiveBack(command);
                command = null;
            }

            return answer;
        }
        finally
        {
            running?.Invoke(null);
            command?.Value.Dispose();
        }
    }
}
