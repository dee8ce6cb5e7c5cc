using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace System.Data.Odbc;

public sealed class OdbcCommand : DbCommand
{
    private readonly Lock _canceling = new();
    private string _commandText = "";
    private OdbcConnection? _connection;
    private OdbcTransaction? _transaction;
    private volatile OdbcStatementHandle? _statement;
    private OdbcDataReader? _reader;
    private bool _prepared;

    public OdbcCommand()
    {
    }

    public OdbcCommand(string? cmdText, OdbcConnection? connection = null, OdbcTransaction? transaction = null)
    {
        CommandText = cmdText;
        Connection = connection;
        Transaction = transaction;
    }

    [AllowNull]
    public override string CommandText
    {
        get => _commandText;
        set
        {
            _prepared &= _commandText == value;
            _commandText = value ?? "";
        }
    }

    public override int CommandTimeout
    {
        get;
        set
        {
            if (value < 0)
            {
                throw new ArgumentException($"Invalid CommandTimeout value {value}; the value must be >= 0.", nameof(value));
            }

            field = value;
        }
    }
    = 30;

    public override CommandType CommandType
    {
        get;
        set => field = value is CommandType.Text or CommandType.StoredProcedure
            ? value
            : throw new ArgumentOutOfRangeException(nameof(value), value, null);
    }
    = CommandType.Text;

    public new OdbcConnection? Connection
    {
        get => _connection;
        set
        {
            if (_connection != value)
            {
                FreeStatement();
                _connection = value;
            }
        }
    }

    public new OdbcParameterCollection Parameters { get; } = new();

    public new OdbcTransaction? Transaction
    {
        get => _transaction?.Connection is null ? null : _transaction;
        set => _transaction = value;
    }

    public override bool DesignTimeVisible { get; set; } = true;

    public override UpdateRowSource UpdatedRowSource { get; set; } = UpdateRowSource.Both;

    protected override DbConnection? DbConnection
    {
        get => Connection;
        set => Connection = (OdbcConnection?)value;
    }

    protected override DbParameterCollection DbParameterCollection => Parameters;

    protected override DbTransaction? DbTransaction
    {
        get => Transaction;
        set => Transaction = (OdbcTransaction?)value;
    }

    public new OdbcParameter CreateParameter() => (OdbcParameter)base.CreateParameter();

    public override int ExecuteNonQuery()
    {
        using var reader = Execute(CommandBehavior.Default, nameof(ExecuteNonQuery));
        reader.Close();
        return reader.RecordsAffected;
    }

    public override object? ExecuteScalar()
    {
        using var reader = Execute(CommandBehavior.Default, nameof(ExecuteScalar));
        var value = reader.Read() && reader.FieldCount > 0 ? reader.GetValue(0) : null;
        reader.Close();
        return value;
    }

    public new OdbcDataReader ExecuteReader() => ExecuteReader(CommandBehavior.Default);

    public new OdbcDataReader ExecuteReader(CommandBehavior behavior) => Execute(behavior, nameof(ExecuteReader));

    public override void Prepare()
    {
        var connection = RequireConnection(nameof(Prepare));
        connection.RequireOpen(nameof(Prepare));
        var statement = _statement ??= connection.AllocateStatement(this);
        connection.Check(statement, Native.SQLPrepareW(statement, CommandText, Native.NullTerminated));
        _prepared = true;
    }

    public override void Cancel()
    {
        if (_statement is not { } statement)
        {
            return;
        }

        lock (_canceling)
        {
            statement.Canceling = true;
            try
            {
                if (!Native.Ok(Native.SQLCancel(statement)))
                {
                    throw Connection!.Failure(statement);
                }
            }
            catch (ObjectDisposedException)
            {
                // The statement ended in the meantime: nothing is left to cancel.
            }
        }
    }

    internal void FreeStatement()
    {
        _reader?.Dispose();
        _reader = null;
        _statement?.Dispose();
        _statement = null;
        _prepared = false;
        _transaction = null;
        _connection?.Forget(this);
    }

    protected override DbParameter CreateDbParameter() => new OdbcParameter();

    protected override DbDataReader ExecuteDbDataReader(CommandBehavior behavior) => ExecuteReader(behavior);

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Connection = null;
            Parameters.Clear();
            CommandText = null;
        }

        base.Dispose(disposing);
    }

    private OdbcDataReader Execute(CommandBehavior behavior, string method)
    {
        if (CommandText.Length == 0)
        {
            throw new InvalidOperationException($"{method}: CommandText property has not been initialized");
        }

        var connection = RequireConnection(method);
        connection.Admit(Transaction, method);
        if (_reader is { IsClosed: false })
        {
            throw new InvalidOperationException(
                "There is already an open DataReader associated with this Command which must be closed first.");
        }

        var statement = _statement ??= connection.AllocateStatement(this);
        statement.Canceling = false;
        _ = Native.SetStatement(statement, Native.QueryTimeout, CommandTimeout);
        var reader = new OdbcDataReader(connection, statement, behavior);
        try
        {
            connection.Check(statement, statement.Bind(Parameters));
            var code = _prepared
                ? Native.SQLExecute(statement)
                : Native.SQLExecDirectW(statement, CommandText, Native.NullTerminated);
            if (code != Native.NoData)
            {
                connection.Check(statement, code);
            }

            reader.FirstResult();
            return _reader = reader;
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    private OdbcConnection RequireConnection(string method) =>
        Connection ?? throw new InvalidOperationException($"{method}: Connection property has not been initialized.");
}
