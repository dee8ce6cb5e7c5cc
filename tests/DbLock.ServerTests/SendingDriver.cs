using System.Data.Common;

namespace DbLock.ServerTests;

/// <summary>A driver that sends more than it is asked to, over the connection that only a lock has.</summary>
internal sealed class SendingDriver : ILockDriver
{
    private readonly ILockDriver _driver;

    public SendingDriver(ILockDriver driver) => (_driver, Interface) = (driver, new LockInterface("Sending", this, LockDialect.PostgreSql));

    public LockInterface Interface { get; }

    /// <summary>Gets a question that is asked after each statement.</summary>
    public string? Looks { get; init; }

    /// <summary>Gets its last answer.</summary>
    public object? Seen { get; private set; }

    /// <summary>Gets a word of the statements that fail on the server.</summary>
    public string? Fails { get; init; }

    /// <summary>Gets or sets what is sent before the next statement, once.</summary>
    public string? Before { get; set; }

    /// <summary>Gets or sets what looks on when a statement is about to be sent.</summary>
    public Action<LockStatement>? Sees { get; set; }

    public bool Supports(DbConnection connection) => _driver.Supports(connection);

    public async ValueTask<object?> Execute(DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        Sees?.Invoke(statement);
        if (Before is { } before)
        {
            Before = null;
            await Send(before);
        }

        if (Fails is not null && Array.Exists(statement.Commands, command => command.Sql.Numbered.Contains(Fails, StringComparison.Ordinal)))
        {
            await Send("select 1 / 0");
        }

        var answer = await _driver.Execute(connection, transaction, statement, async, cancellationToken);
        Seen = Looks is null ? null : await Send(Looks);
        return answer;

        ValueTask<object?> Send(string sql) => _driver.Execute(connection, transaction, new LockStatement(new LockCommand(new LockSql(sql))), async, CancellationToken.None);
    }

    public DbError Read(Exception exception) => _driver.Read(exception);

    public int? SessionId(DbConnection connection) => _driver.SessionId(connection);

    public void Discard(DbConnection connection) => _driver.Discard(connection);
}
