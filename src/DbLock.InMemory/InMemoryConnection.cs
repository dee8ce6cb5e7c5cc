using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>A connection to an <see cref="InMemoryLockServer"/>: it has locks and transactions, and understands no SQL.</summary>
public sealed class InMemoryConnection : DbConnection
{
    private readonly InMemoryLockServer _server;
    private InMemorySession? _session;
    private InMemoryTransaction? _transaction;
    private ConnectionState _state;

    internal InMemoryConnection(InMemoryLockServer server) => _server = server;

    /// <summary>
    /// Gets the number of the session, for <see cref="InMemoryLockServer.EndSession"/>; 0 while the connection is closed.
    /// </summary>
    public int SessionId => _session?.Id ?? 0;

    /// <inheritdoc />
    [AllowNull]
    public override string ConnectionString { get; set; } = "";

    /// <inheritdoc />
    public override string Database => "memory";

    /// <inheritdoc />
    public override string DataSource => "memory";

    /// <inheritdoc />
    public override string ServerVersion => "1";

    /// <inheritdoc />
    public override ConnectionState State => _state;

    internal InMemorySession Session => _session ?? throw new InvalidOperationException("The connection is closed.");

    /// <inheritdoc />
    public override void Open()
    {
        if (_state == ConnectionState.Open)
        {
            throw new InvalidOperationException("The connection is open already.");
        }

        _session = _server.NewSession();
        Become(ConnectionState.Open);
    }

    /// <inheritdoc />
    public override void Close()
    {
        _transaction?.End();
        _session?.End();
        _session = null;
        Become(ConnectionState.Closed);
    }

    /// <inheritdoc />
    public override void ChangeDatabase(string databaseName) => throw new NotSupportedException("There is one database in memory.");

    internal void Break() => Close();

    internal void CheckTransaction(DbTransaction? transaction)
    {
        if (transaction is not null && transaction != _transaction)
        {
            throw new InvalidOperationException("The transaction is not the one that is open on this connection.");
        }
    }

    internal void Forget(InMemoryTransaction transaction) => _transaction = _transaction == transaction ? null : _transaction;

    /// <inheritdoc />
    protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) =>
        _transaction is null
            ? _transaction = new InMemoryTransaction(
                this, Session, isolationLevel == IsolationLevel.Unspecified ? IsolationLevel.ReadCommitted : isolationLevel)
            : throw new InvalidOperationException("A transaction is open already.");

    /// <inheritdoc />
    protected override DbCommand CreateDbCommand() =>
        throw new NotSupportedException("A connection in memory has locks, and understands no SQL.");

    /// <inheritdoc />
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Close();
        }

        base.Dispose(disposing);
    }

    private void Become(ConnectionState state)
    {
        var before = _state;
        if (before != state)
        {
            _state = state;
            OnStateChange(new StateChangeEventArgs(before, state));
        }
    }
}
