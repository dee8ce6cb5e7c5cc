using System.Data.Common;
using DbLock.Tests.Acquiring;

namespace DbLock.Tests.Sessions;

/// <summary>A driver of a lock that has a connection of its own, with an answer for each statement.</summary>
/// <param name="answer">
/// Answers: "try", "wait", "settings", "alive" (whether the session lives). It may throw, before there is anything to wait for.
/// </param>
internal sealed class HeldDriver(Func<string, ValueTask<object?>> answer) : ILockDriver
{
    private static readonly (string Text, string Name)[] Names =
    [
        ("tcp_keepalives_idle", "settings"), ("pg_advisory_xact_lock(", "wait"), ("pg_try_advisory", "try"), ("pg_advisory_unlock", "release"),
        ("pg_backend_pid", "alive"),
    ];

    /// <summary>Gets what was sent, and what was done to the connection.</summary>
    public List<string> Told { get; } = [];

    /// <summary>Returns a lock whose connection is its own.</summary>
    public Lock NewLock()
    {
        var options = new LockOptions { Dialect = LockDialect.PostgreSql };
        return new Lock(new ScriptedConnection((_, _) => null), "held", new LockInterface("Held", this, LockDialect.PostgreSql), options)
        {
            HasOwnConnection = true,
        };
    }

    public bool Supports(DbConnection connection) => true;

    public int? SessionId(DbConnection connection) => 42;

    public bool CanCancel(DbConnection connection) => true;

    public bool CanAbort(DbConnection connection) => true;

    public ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var text = string.Join(";\n", statement.Commands.Select(command => command.Sql.Numbered));
        var name = Names.First(one => text.Contains(one.Text, StringComparison.Ordinal)).Name;
        Told.Add(name);
        return answer(name);
    }

    public DbError Read(Exception exception) => exception is ScriptedException scripted ? scripted.Codes : default;

    public void Abort(DbConnection connection) => Told.Add("abort");

    public void Discard(DbConnection connection)
    {
        Told.Add("discard");
        connection.Close();
    }
}
