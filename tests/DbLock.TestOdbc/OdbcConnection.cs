using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.RegularExpressions;

namespace System.Data.Odbc;

public sealed unsafe partial class OdbcConnection : DbConnection
{
    private static readonly StateChangeEventArgs Opened = new(ConnectionState.Closed, ConnectionState.Open);
    private static readonly StateChangeEventArgs Closed = new(ConnectionState.Open, ConnectionState.Closed);

    private readonly HashSet<OdbcCommand> _commands = [];
    private string _connectionString = "";
    private bool _hidesPassword;
    private OdbcConnectionHandle? _handle;

    public OdbcConnection()
    {
    }

    public OdbcConnection(string? connectionString) => ConnectionString = connectionString;

    public event OdbcInfoMessageEventHandler? InfoMessage;

    /// <summary>The connection string; without its password once the connection was opened, as in System.Data.Odbc.</summary>
    [AllowNull]
    public override string ConnectionString
    {
        get => _hidesPassword ? Password().Replace(_connectionString, "") : _connectionString;
        set
        {
            if (_handle is not null)
            {
                throw new InvalidOperationException(
                    "Not allowed to change the 'ConnectionString' property. The connection's current state is open.");
            }

            _connectionString = value ?? "";
            _hidesPassword = false;
        }
    }

    public new int ConnectionTimeout { get; set; } = 15;

    public override string Database
    {
        get
        {
            if (_handle is not { } handle)
            {
                return "";
            }

            var text = stackalloc char[512];
            return Native.Ok(Native.SQLGetConnectAttrW(handle, Native.CurrentCatalog, text, 512 * sizeof(char), out var bytes))
                ? new string(text, 0, Math.Min(bytes / sizeof(char), 511))
                : "";
        }
    }

    public override string DataSource => GetInfo(Native.ServerName);

    public string Driver => GetInfo(Native.DriverName);

    public override string ServerVersion
    {
        get
        {
            _ = OpenHandle;
            return GetInfo(Native.DbmsVersion);
        }
    }

    public override ConnectionState State => _handle is null ? ConnectionState.Closed : ConnectionState.Open;

    internal OdbcTransaction? LocalTransaction { get; set; }

    protected override DbProviderFactory DbProviderFactory => OdbcFactory.Instance;

    private OdbcConnectionHandle OpenHandle =>
        _handle ?? throw new InvalidOperationException("Invalid operation. The connection is closed.");

    /// <summary>Does nothing: nothing is pooled.</summary>
    public static void ReleaseObjectPool()
    {
    }

    public override void Open()
    {
        if (_handle is not null)
        {
            throw new InvalidOperationException("The connection was not closed. The connection's current state is open.");
        }

        if (_connectionString.Length == 0)
        {
            throw new InvalidOperationException("The ConnectionString property has not been initialized.");
        }

        var handle = new OdbcConnectionHandle();
        try
        {
            Check(handle, handle.Connect(_connectionString, ConnectionTimeout));
        }
        catch
        {
            handle.Dispose();
            throw;
        }

        _handle = handle;
        _hidesPassword = true;
        OnStateChange(Opened);
    }

    public override void Close()
    {
        if (Interlocked.Exchange(ref _handle, null) is not { } handle)
        {
            return;
        }

        OdbcCommand[] commands;
        lock (_commands)
        {
            commands = [.. _commands];
        }

        foreach (var command in commands)
        {
            command.FreeStatement();
        }

        OnStateChange(Closed);
        LocalTransaction?.Dispose();
        handle.Dispose();
    }

    public new OdbcTransaction BeginTransaction() => BeginTransaction(IsolationLevel.Unspecified);

    public new OdbcTransaction BeginTransaction(IsolationLevel isolevel)
    {
        var handle = OpenHandle;
        if (LocalTransaction is not null)
        {
            throw new InvalidOperationException($"{nameof(OdbcConnection)} does not support parallel transactions.");
        }

        if (isolevel != IsolationLevel.Unspecified)
        {
            var (attribute, level) = isolevel switch
            {
                IsolationLevel.ReadUncommitted => (Native.Isolation, 1),
                IsolationLevel.ReadCommitted => (Native.Isolation, 2),
                IsolationLevel.RepeatableRead => (Native.Isolation, 4),
                IsolationLevel.Serializable => (Native.Isolation, 8),
                IsolationLevel.Snapshot => (Native.SqlServerIsolation, 32),
                _ => throw new ArgumentOutOfRangeException(nameof(isolevel), isolevel, null),
            };
            var code = Native.SetConnection(handle, attribute, level);
            Check(handle, code);
            if (code == Native.SuccessWithInfo)
            {
                isolevel = IsolationLevel.Unspecified;
            }
        }

        Check(handle, handle.BeginTransaction());
        return LocalTransaction = new OdbcTransaction(this, handle, isolevel);
    }

    public override void ChangeDatabase(string databaseName)
    {
        var handle = OpenHandle;
        if (string.IsNullOrWhiteSpace(databaseName))
        {
            throw new ArgumentException("Database cannot be null, the empty string, or string of only whitespace.", nameof(databaseName));
        }

        Check(handle, Native.SQLSetConnectAttrW(handle, Native.CurrentCatalog, databaseName, databaseName.Length * sizeof(char)));
    }

    public new OdbcCommand CreateCommand() => new("", this);

    public override DataTable GetSchema(string collectionName)
    {
        var version = ServerVersion;
        if (!collectionName.Equals(DbMetaDataCollectionNames.DataSourceInformation, StringComparison.OrdinalIgnoreCase))
        {
            throw new ArgumentException($"The requested collection ({collectionName}) is not defined.", nameof(collectionName));
        }

        var table = new DataTable(DbMetaDataCollectionNames.DataSourceInformation) { Locale = CultureInfo.InvariantCulture };
        table.Columns.Add(DbMetaDataColumnNames.DataSourceProductName);
        table.Columns.Add(DbMetaDataColumnNames.DataSourceProductVersion);
        table.Columns.Add(DbMetaDataColumnNames.DataSourceProductVersionNormalized);
        table.Rows.Add(GetInfo(Native.DbmsName), version, version);
        return table;
    }

    internal void RequireOpen(string method)
    {
        if (_handle is null)
        {
            throw new InvalidOperationException(
                $"{method} requires an open and available Connection. The connection's current state is closed.");
        }
    }

    /// <summary>Throws unless a command with this live transaction, or none, may run now.</summary>
    internal void Admit(OdbcTransaction? transaction, string method)
    {
        if (transaction is null && LocalTransaction is not null)
        {
            throw new InvalidOperationException(
                $"{method} requires the command to have a transaction object when the connection assigned to the command is in a pending "
                + "local transaction.  The Transaction property of the command has not been initialized.");
        }

        if (transaction != LocalTransaction)
        {
            throw new InvalidOperationException(
                "The transaction is either not associated with the current connection or has been completed.");
        }

        RequireOpen(method);
    }

    internal OdbcStatementHandle AllocateStatement(OdbcCommand command)
    {
        var statement = new OdbcStatementHandle(OpenHandle);
        lock (_commands)
        {
            _commands.Add(command);
        }

        return statement;
    }

    internal void Forget(OdbcCommand command)
    {
        lock (_commands)
        {
            _commands.Remove(command);
        }
    }

    internal void Check(OdbcHandle handle, short code)
    {
        if (code == Native.SuccessWithInfo)
        {
            Note(handle);
        }
        else if (code != Native.Success)
        {
            throw Failure(handle);
        }
    }

    internal void Note(OdbcHandle handle)
    {
        if (InfoMessage is { } handler)
        {
            var errors = new OdbcErrorCollection();
            handle.ReadDiagnostics(errors);
            errors.SetSource(Driver);
            handler(this, new OdbcInfoMessageEventArgs(errors));
        }
    }

    internal Exception Failure(OdbcHandle handle)
    {
        var errors = new OdbcErrorCollection();
        handle.ReadDiagnostics(errors);
        return Failure(errors);
    }

    /// <summary>The exception for these errors; a connection that its driver calls dead is closed, and the exception says so.</summary>
    internal Exception Failure(OdbcErrorCollection errors)
    {
        errors.SetSource(Driver);
        var failure = new OdbcException(errors);
        var dead = 0;
        if (_handle is { } handle
            && Native.Ok(Native.SQLGetConnectAttrW(handle, Native.ConnectionDead, &dead, sizeof(int), out _))
            && dead == 1)
        {
            Close();
            return new InvalidOperationException("The connection has been disabled.", failure);
        }

        return failure;
    }

    internal IsolationLevel GetIsolation()
    {
        var handle = OpenHandle;
        var level = 0;
        Check(handle, Native.SQLGetConnectAttrW(handle, Native.Isolation, &level, sizeof(int), out _));
        return level switch
        {
            1 => IsolationLevel.ReadUncommitted,
            2 => IsolationLevel.ReadCommitted,
            4 => IsolationLevel.RepeatableRead,
            8 => IsolationLevel.Serializable,
            32 => IsolationLevel.Snapshot,
            _ => throw new InvalidOperationException($"SQL_TRANSACTION '{level}' is no {nameof(IsolationLevel)}."),
        };
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Close();
            _connectionString = "";
        }

        base.Dispose(disposing);
    }

    protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) => BeginTransaction(isolationLevel);

    protected override DbCommand CreateDbCommand() => CreateCommand();

    [GeneratedRegex(
        @"(?<=^|;)\s*(pwd|password)\s*=\s*(\{([^}]|\}\})*\}|[^;]*)(;|$)", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Password();

    private string GetInfo(ushort kind)
    {
        if (_handle is not { } handle)
        {
            return "";
        }

        var text = stackalloc char[512];
        return Native.Ok(Native.SQLGetInfoW(handle, kind, text, 512 * sizeof(char), out var bytes))
            ? new string(text, 0, Math.Min(bytes / sizeof(char), 511))
            : "";
    }
}
