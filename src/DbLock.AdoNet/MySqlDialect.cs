using System.Data;
using System.Globalization;
using System.Text;

namespace DbLock;

/// <summary>The user locks of MySQL and MariaDB: names on the whole server, exclusive, of the session alone.</summary>
/// <remarks>
/// <see href="https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html"/> and <see href="https://mariadb.com/kb/en/get_lock/"/>. What differs between the two, and
/// from those pages, was measured on MariaDB 10.11: names are case-sensitive there and may have 192 bytes, and a negative timeout answers NULL.
/// </remarks>
internal sealed class MySqlDialect(bool isMariaDb) : LockDialect
{
    // The longest wait that both engines take: MariaDB answers NULL to a negative timeout, and 0 at once to a larger one.
    private const long ForEverSeconds = uint.MaxValue;

    private static readonly LockSql AcquireSql = new("select get_lock({0}, {1})");
    private static readonly LockSql IsHeldSql = new("select case when is_used_lock({0}) = connection_id() then 1 else 0 end");
    private static readonly LockSql UndoSql = new("select case when is_used_lock({0}) = connection_id() then coalesce(release_lock({0}), 0) else 0 end");
    private static readonly LockSql ReleaseSql = new("select coalesce(release_lock({0}), 0)");
    private static readonly LockStatement Kill = new(new LockCommand(new LockSql("kill connection_id()")));

    public override string Name => isMariaDb ? "MariaDB" : "MySQL";

    public override TimeSpan MaxTimeout => TimeSpan.FromSeconds(ForEverSeconds - 1);

    public override LockStatement? EndSession => Kill;

    public override bool Speaks(string product) => isMariaDb
        ? product.Contains("MariaDB", StringComparison.OrdinalIgnoreCase)
        : product.Contains("MySql", StringComparison.OrdinalIgnoreCase);

    // MySQL folds names to lower case before it looks them up.
    public override string Identify(LockKey key) => isMariaDb ? ServerName(key) : ServerName(key).ToLowerInvariant();

    public override LockStatement Acquire(in LockRequest request)
    {
        if (request.Shared)
        {
            throw new NotSupportedException($"{Name} has no shared locks: leave LockOptions.Shared off, or lock on PostgreSQL or SQL Server.");
        }

        if (request.Scope == LockScope.Transaction)
        {
            throw new NotSupportedException($"{Name} has no locks that end with a transaction: use LockScope.Session, and release after the commit.");
        }

        // MySQL rounds to whole seconds, and 0.4 s would be no wait at all: it is rounded up here.
        var seconds = request.Milliseconds < 0 ? ForEverSeconds : request.Milliseconds / 1000.0;
        return new LockStatement(Command(AcquireSql, request, new LockParameter(DbType.Double, isMariaDb ? seconds : Math.Ceiling(seconds))))
        {
            Wait = request.Try ? null : request.Timeout,
        };
    }

    public override LockStatement Undo(in LockRequest request) => new(Command(UndoSql, request));

    public override LockStatement IsHeld(in LockRequest request) => new(Command(IsHeldSql, request));

    public override LockStatement Release(in LockRequest request) => new(Command(ReleaseSql, request));

    // NULL: an interrupted wait (KILL QUERY, max_statement_time) or an error that is none.
    public override LockOutcome Read(object? answer) => answer switch
    {
        null or DBNull => LockOutcome.Cancelled,
        _ => Convert.ToInt64(answer, CultureInfo.InvariantCulture) == 1 ? LockOutcome.Acquired : LockOutcome.NotAcquired,
    };

    // https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and https://mariadb.com/kb/en/mariadb-error-code-reference/
    public override LockOutcome Read(DbError codes) => codes.Number switch
    {
        1213 or 3058 => LockOutcome.Deadlock, // ER_LOCK_DEADLOCK, ER_USER_LOCK_DEADLOCK
        1317 or 1969 or 3024 => LockOutcome.Cancelled, // ER_QUERY_INTERRUPTED, ER_STATEMENT_TIMEOUT (MariaDB), ER_QUERY_TIMEOUT (MySQL)
        1053 or 1927 or 2006 or 2013 or 2055 or 4031 => LockOutcome.ConnectionLost, // shutdown, killed, gone away, lost, lost, idle too long
        0 => codes.SqlState is ['0', '8', ..] ? LockOutcome.ConnectionLost : LockOutcome.Unknown,
        _ => LockOutcome.Refused,
    };

    private LockCommand Command(LockSql sql, in LockRequest request, params ReadOnlySpan<LockParameter> more) =>
        new(sql, [new LockParameter(DbType.String, ServerName(request.Key)), .. more]);

    private string ServerName(LockKey key)
    {
        if (key.Name.Length == 0)
        {
            throw new ArgumentException($"{Name} refuses an empty lock name: give the key a text.", nameof(key));
        }

        return isMariaDb
            ? LongName.Shorten(key.Name, key.Name, 192, Encoding.UTF8.GetByteCount)
            : LongName.Shorten(key.Name, key.Name.ToLowerInvariant(), 64, text => text.EnumerateRunes().Count());
    }
}
