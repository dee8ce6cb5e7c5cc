using System.Data.Common;
using System.Text.RegularExpressions;

namespace DbLock.Tests.Acquiring;

/// <summary>Sends each statement to the script of its connection.</summary>
internal sealed partial class ScriptedDriver(bool canCancel) : ILockDriver
{
    // What a statement is, by the first of these texts that is in it.
    private static readonly (string Text, string Name)[] Names =
    [
        ("pg_terminate_backend", "end session"), ("kill connection_id", "end session"), ("json_build_object", "holders"),
        ("pg_advisory_xact_lock(", "wait"), ("pg_try_advisory", "try"), ("get_lock(", "wait"),
        ("pg_lock_status", "is held"), ("is_used_lock", "is held"),
        ("pg_advisory_unlock", "release"), ("release_lock", "release"), ("select 0", "nothing"), ("rollback to savepoint", "nothing"),
    ];

    public bool Supports(DbConnection connection) => true;

    public bool CanCancel(DbConnection connection) => canCancel;

    public int? SessionId(DbConnection connection) => 42;

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var name = Name(statement) + (cancellationToken.CanBeCanceled ? "*" : "");
        return ((ScriptedConnection)connection).Hear(name, transaction);
    }

    public DbError Read(Exception exception) => exception is ScriptedException scripted ? scripted.Codes : default;

    public void Discard(DbConnection connection)
    {
        ((ScriptedConnection)connection).Told.Add("discard");
        connection.Close();
    }

    private string Name(LockStatement statement)
    {
        var text = string.Join(";\n", statement.Commands.Select(command => command.Sql.Numbered));
        var name = Names.First(one => text.Contains(one.Text, StringComparison.Ordinal)).Name;
        name = (name, statement.Wait) switch
        {
            ("wait", _) when !canCancel => "slice",
            ("wait", null) => "try",
            ("wait", { TotalSeconds: > 0 and < 1 }) => "slice",
            ("is held", _) when Unlock().IsMatch(text) => "undo",
            _ => name,
        };
        return text.Contains("savepoint", StringComparison.Ordinal) ? $"sp({name})" : name;
    }

    [GeneratedRegex("advisory_unlock|release_lock")]
    private static partial Regex Unlock();
}
