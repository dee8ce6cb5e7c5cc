using System.Data.Common;

namespace DbLock.Specification;

/// <summary>
/// What every driver does on every server, synchronously and asynchronously: a topic for each file. A driver and a server join in a class
/// of a few lines, which opens connections.
/// </summary>
/// <param name="server">The server, as an observer sees it.</param>
/// <param name="lockInterface">The driver.</param>
public abstract partial class LockSpecification(TestServer server, LockInterface lockInterface) : IAsyncDisposable
{
    private readonly List<DbConnection> _opened = [];

    protected static TimeSpan ShortWait => TimeSpan.FromMilliseconds(150);

    protected TestServer Server { get; } = server;

    protected LockInterface Interface { get; } = lockInterface;

    /// <summary>Gets whether a failed statement leaves a transaction that takes nothing but its rollback.</summary>
    protected virtual bool AnErrorAbortsTheTransaction => false;

    /// <summary>Gets whether a completed transaction can be told from an open one, as ADO.NET has it: it has no connection.</summary>
    protected virtual bool ShowsCompletedTransactions => true;

    /// <summary>Gets whether the driver can tell that a connection is not enlisted in a TransactionScope.</summary>
    protected virtual bool ShowsEnlistment => true;

    /// <summary>Gets whether the provider may have read all rows before a reader is closed, so that it is in nobody's way.</summary>
    protected virtual bool ReadsAhead => false;

    /// <summary>Gets the interface that a lock without one finds; null where no package of DbLock serves the provider.</summary>
    protected virtual LockInterface? Found => Interface;

    /// <summary>Gets how many rounds a race of a timeout or a cancel with the grant has.</summary>
    protected virtual int Races => 300;

    /// <summary>Gets a key of this test alone.</summary>
    protected LockKey Key { get; } = "lock:" + Guid.NewGuid();

    public async ValueTask DisposeAsync()
    {
        foreach (var connection in _opened)
        {
            await connection.DisposeAsync();
        }
    }

    /// <summary>Runs SQL over a connection, and returns its first value.</summary>
    public static async Task<object?> ExecuteAsync(DbConnection connection, string sql, DbTransaction? transaction = null)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.Transaction = transaction;
        return await command.ExecuteScalarAsync();
    }

    protected static async Task<LockKey[]> WhereAsync(IEnumerable<LockKey> keys, Func<LockKey, Task<bool>> condition)
    {
        var found = new List<LockKey>();
        foreach (var key in keys)
        {
            if (await condition(key))
            {
                found.Add(key);
            }
        }

        return [.. found];
    }

    /// <summary>Opens a connection for the driver to the server.</summary>
    protected abstract Task<DbConnection> ConnectAsync();

    protected async Task<DbConnection> OpenAsync()
    {
        var connection = await ConnectAsync();
        lock (_opened)
        {
            _opened.Add(connection);
        }

        return connection;
    }

    protected Lock NewLock(DbConnection connection, LockOptions? options = null, LockKey? key = null) =>
        new(connection, key ?? Key, Interface, options);

    private async Task<string> CreateTableAsync()
    {
        var table = "work_" + Guid.NewGuid().ToString("N");
        await ExecuteAsync(await OpenAsync(), $"create table {table} (n int)");
        return table;
    }

    private async Task DropTableAsync(string table) => await ExecuteAsync(await OpenAsync(), $"drop table {table}");
}
