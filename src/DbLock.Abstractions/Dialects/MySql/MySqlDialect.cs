using System.Data;
using System.Globalization;
using System.Text;

namespace DbLock;

/// <summary>The user locks of MySQL and MariaDB: names that are unique on the whole server, exclusive, and held by the session.</summary>
/// <remarks>
/// <see href="https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html"/> and <see href="https://mariadb.com/kb/en/get_lock/"/>. What
/// differs between the two, and from those pages, was measured on MariaDB 10.11: names are case-sensitive there and may have 192 bytes, and
/// a negative timeout answers NULL.
/// </remarks>
internal sealed class MySqlDialect(bool isMariaDb) : LockDialect
{
    // The longest wait that both engines accept. MariaDB answers NULL to a negative timeout, and at once 0 to a longer one.
    private const long ForEverSeconds = uint.MaxValue;

    // More than this in one statement was not tried.
    private const int MostKeys = 1000;

    private static readonly MySqlTexts One = new(isHex: false);
    private static readonly MySqlTexts OneInHex = new(isHex: true);
    private static readonly TextsByCount<(bool IsMariaDb, bool IsHex), MySqlTexts> Several = new(
        static (kind, count) => new MySqlTexts(kind.IsMariaDb, kind.IsHex, count));
    private static readonly LockStatement Kill = new(new LockCommand(new LockSql("kill connection_id()")));

    public override string Name => isMariaDb ? "MariaDB" : "MySQL";

    public override string SystemName => isMariaDb ? "mariadb" : "mysql";

    public override TimeSpan MaxTimeout => TimeSpan.FromSeconds(ForEverSeconds - 1);

    public override bool HasSeveral => true;

    public override bool HasAny => true;

    public override LeaseDialect? Leases { get; } = new MySqlLeases(isMariaDb);

    public override LockStatement? EndSession => Kill;

    public override bool HasFencing => isMariaDb;

    // https://mariadb.com/kb/en/mariadb-error-code-reference/: unknown table, unknown sequence
    public override string? Explain(in LockRequest request, DbError codes) => request.Fencing && codes.Number is 1109 or 1146 or 4091
        ? $"Fencing tokens come from a sequence, and this database has none: create sequence {MySqlTexts.Sequence}, with the right to "
            + "insert into it for whoever locks."
        : null;

    public override LockCarrier Carrier => field ??= new MySqlCarrier(Name, ServerName, isMariaDb);

    public override bool Speaks(string product) => isMariaDb
        ? product.Contains("MariaDB", StringComparison.OrdinalIgnoreCase)
        : product.Contains("MySql", StringComparison.OrdinalIgnoreCase);

    // MySQL folds names to lower case before it looks them up.
    public override string Identify(LockKey key) => isMariaDb ? ServerName(key) : ServerName(key).ToLowerInvariant();

    public override LockStatement Acquire(in LockRequest request)
    {
        if (request.Shared)
        {
            throw new NotSupportedException(
                $"{Name} has no shared locks: leave LockOptions.Shared off, or lock on PostgreSQL or SQL Server.");
        }

        if (request.Scope == LockScope.Transaction)
        {
            throw new NotSupportedException(
                $"{Name} has no locks that end with a transaction: use LockScope.Session, and release after the commit.");
        }

        if (request.Any is not null)
        {
            return new LockStatement(
                Command(request.Fencing ? static texts => texts.AcquireAnyFenced : static texts => texts.AcquireAny, request));
        }

        // MySQL rounds to whole seconds, so that 0.4 s would be no wait at all. It is rounded up here.
        var seconds = request.Milliseconds < 0 ? ForEverSeconds : request.Milliseconds / 1000.0;
        return new LockStatement(
            Command(
                request.Fencing ? static texts => texts.AcquireFenced : static texts => texts.Acquire,
                request,
                new LockParameter(DbType.Double, isMariaDb ? seconds : Math.Ceiling(seconds))))
        {
            Wait = request.Try ? null : request.Timeout,
        };
    }

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => new(Command(texts => texts.Undo, request));

    public override LockStatement IsHeld(in LockRequest request) => new(Command(texts => texts.IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(texts => texts.Release, request));

    public override LockStatement Holders(in LockRequest request) => MySqlHolders.Question(ServerNames(request.Key), isMariaDb);

    // Of several keys, the first that is held.
    public override LockHolders ReadHolders(LockKey key, object? answer)
    {
        var all = MySqlHolders.Read([.. key.Keys.DistinctBy(Identify)], answer);
        return Array.Find(all, static one => one.Count > 0) ?? all[0];
    }

    // The answer NULL means that the wait was interrupted (KILL QUERY, max_statement_time), or that the function failed without an error.
    public override LockReply Read(in LockRequest request, object? answer)
    {
        if (answer is null or DBNull)
        {
            return new(LockOutcome.Cancelled);
        }

        var (code, taken) = ReadAny(request, Convert.ToInt64(answer, CultureInfo.InvariantCulture));
        return new(code > 0 ? LockOutcome.Acquired : LockOutcome.NotAcquired)
        {
            FencingToken = request.Fencing ? code : 0,
            Taken = taken,
        };
    }

    // https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and https://mariadb.com/kb/en/mariadb-error-code-reference/
    public override LockOutcome Read(DbError codes) => codes.Number switch
    {
        1213 or 3058 => LockOutcome.Deadlock, // ER_LOCK_DEADLOCK, ER_USER_LOCK_DEADLOCK
        1317 or 1969 or 3024 => LockOutcome.Cancelled, // ER_QUERY_INTERRUPTED, ER_STATEMENT_TIMEOUT (MariaDB), ER_QUERY_TIMEOUT (MySQL)
        var number when MySqlErrors.IsLost(number) => LockOutcome.ConnectionLost,

        // What is below zero is the client's own, as the -1 of MySqlConnector when a command's time is over.
        <= 0 => codes.SqlState is ['0', '8', ..] ? LockOutcome.ConnectionLost : LockOutcome.Unknown,
        _ => LockOutcome.Refused,
    };

    // Keys that the server takes for one name are locked once.
    private LockCommand Command(Func<MySqlTexts, LockSql> text, in LockRequest request, params ReadOnlySpan<LockParameter> more)
    {
        var names = request.Any is { } any ? [.. any.Select(ServerName)] : ServerNames(request.Key);
        if (names.Length > MostKeys)
        {
            throw new NotSupportedException(string.Create(
                CultureInfo.InvariantCulture,
                $"{Name} is not asked for {names.Length} keys in one statement: lock at most {MostKeys} at once, or one after the other."));
        }

        var isHex = !Array.TrueForAll(names, static name => MySqlTexts.IsPlain(name));
        var parameters = names.Select(name => MySqlTexts.Parameter(name, isHex));
        var texts = names.Length > 1 || request.Any is not null ? Several.For((isMariaDb, isHex), names.Length) : isHex ? OneInHex : One;
        return new(text(texts), [.. parameters, .. more]);
    }

    private string[] ServerNames(LockKey key) => [.. key.Keys.DistinctBy(Identify).Select(ServerName)];

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
