using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Transactions;
using IsolationLevel = System.Data.IsolationLevel;

namespace DbLock.ServerTests;

/// <summary>Connections in decorators that forward everything, as profilers' do, and show what they wrap in different ways.</summary>
internal static class Decorated
{
    /// <summary>Gets how a decorator may show what it wraps: in a public property, in a private field alone, in layers, or not at all.</summary>
    public static string[] Ways => ["property", "field", "layers"];

    public static DbConnection Wrap(DbConnection inner, string way) => way switch
    {
        "property" => new ShowingConnection(inner),
        "field" => new HoldingConnection(inner),
        "layers" => new ShowingConnection(new HoldingConnection(inner)),
        _ => new OpaqueConnection(() => inner),
    };
}

/// <summary>Shows what it wraps, and has another connection beside.</summary>
internal sealed class ShowingConnection(DbConnection inner) : ForwardingConnection
{
    private readonly DbConnection? _beside = new Npgsql.NpgsqlConnection();

    public DbConnection WrappedConnection { get; } = inner;

    protected override DbConnection Inner => WrappedConnection;

    protected override void Dispose(bool disposing)
    {
        _beside?.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>Has what it wraps in a private field.</summary>
internal sealed class HoldingConnection(DbConnection inner) : ForwardingConnection
{
    private readonly DbConnection _inner = inner;

    protected override DbConnection Inner => _inner;
}

/// <summary>Shows nothing.</summary>
internal sealed class OpaqueConnection(Func<DbConnection> inner) : ForwardingConnection
{
    protected override DbConnection Inner => inner();
}

internal abstract class ForwardingConnection : DbConnection
{
    [AllowNull]
    public override string ConnectionString { get => Inner.ConnectionString; set => Inner.ConnectionString = value; }

    public override int ConnectionTimeout => Inner.ConnectionTimeout;

    public override string Database => Inner.Database;

    public override string DataSource => Inner.DataSource;

    public override string ServerVersion => Inner.ServerVersion;

    public override ConnectionState State => Inner.State;

    protected abstract DbConnection Inner { get; }

    public override event StateChangeEventHandler? StateChange
    {
        add => Inner.StateChange += value;
        remove => Inner.StateChange -= value;
    }

    public override void ChangeDatabase(string databaseName) => Inner.ChangeDatabase(databaseName);

    public override void Open() => Inner.Open();

    public override Task OpenAsync(CancellationToken cancellationToken) => Inner.OpenAsync(cancellationToken);

    public override void Close() => Inner.Close();

    public override Task CloseAsync() => Inner.CloseAsync();

    public override DataTable GetSchema(string collectionName) => Inner.GetSchema(collectionName);

    public override void EnlistTransaction(System.Transactions.Transaction? transaction) => Inner.EnlistTransaction(transaction);

    protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) => new ForwardingTransaction(this, Inner.BeginTransaction(isolationLevel));

    protected override DbCommand CreateDbCommand() => new ForwardingCommand(this, Inner.CreateCommand());

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Inner.Dispose();
        }

        base.Dispose(disposing);
    }
}

internal sealed class ForwardingTransaction(ForwardingConnection connection, DbTransaction inner) : DbTransaction
{
    public DbTransaction WrappedTransaction { get; } = inner;

    public override IsolationLevel IsolationLevel => WrappedTransaction.IsolationLevel;

    // As MiniProfiler's, which keeps it after the end.
    protected override DbConnection DbConnection => connection;

    public override void Commit() => WrappedTransaction.Commit();

    public override void Rollback() => WrappedTransaction.Rollback();

    protected override void Dispose(bool disposing)
    {
        WrappedTransaction.Dispose();
        base.Dispose(disposing);
    }
}

internal sealed class ForwardingCommand(ForwardingConnection connection, DbCommand inner) : DbCommand
{
    private DbTransaction? _transaction;

    [AllowNull]
    public override string CommandText { get => inner.CommandText; set => inner.CommandText = value; }

    public override int CommandTimeout { get => inner.CommandTimeout; set => inner.CommandTimeout = value; }

    public override CommandType CommandType { get => inner.CommandType; set => inner.CommandType = value; }

    public override bool DesignTimeVisible { get => inner.DesignTimeVisible; set => inner.DesignTimeVisible = value; }

    public override UpdateRowSource UpdatedRowSource { get => inner.UpdatedRowSource; set => inner.UpdatedRowSource = value; }

    protected override DbConnection? DbConnection { get => connection; set => throw new NotSupportedException(); }

    protected override DbParameterCollection DbParameterCollection => inner.Parameters;

    protected override DbTransaction? DbTransaction
    {
        get => _transaction;
        set => inner.Transaction = (_transaction = value) is ForwardingTransaction forwarding ? forwarding.WrappedTransaction : value;
    }

    public override void Cancel() => inner.Cancel();

    public override int ExecuteNonQuery() => inner.ExecuteNonQuery();

    public override object? ExecuteScalar() => inner.ExecuteScalar();

    public override void Prepare() => inner.Prepare();

    public override Task PrepareAsync(CancellationToken cancellationToken = default) => inner.PrepareAsync(cancellationToken);

    protected override DbParameter CreateDbParameter() => inner.CreateParameter();

    protected override DbDataReader ExecuteDbDataReader(CommandBehavior behavior) => inner.ExecuteReader(behavior);

    protected override Task<DbDataReader> ExecuteDbDataReaderAsync(CommandBehavior behavior, CancellationToken cancellationToken) => inner.ExecuteReaderAsync(behavior, cancellationToken);

    protected override void Dispose(bool disposing)
    {
        inner.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>A data source whose connections are wrapped.</summary>
internal sealed class WrappingDataSource(DbDataSource inner, string way) : DbDataSource
{
    public override string ConnectionString => inner.ConnectionString;

    protected override DbConnection CreateDbConnection() => Decorated.Wrap(inner.CreateConnection(), way);

    protected override DbConnection OpenDbConnection() => Decorated.Wrap(inner.OpenConnection(), way);

    protected override async ValueTask<DbConnection> OpenDbConnectionAsync(CancellationToken cancellationToken = default) =>
        Decorated.Wrap(await inner.OpenConnectionAsync(cancellationToken), way);
}
