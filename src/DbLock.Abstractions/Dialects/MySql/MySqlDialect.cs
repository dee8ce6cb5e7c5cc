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

    // The statement for more keys nests deeper than the thread stack of a server with default settings allows: it fails with "Thread stack
    // overrun", and the connection is closed (measured with 1,000 keys).
    private const int MostKeys = 100;

    private static readonly Texts One = new(isHex: false);
    private static readonly Texts OneInHex = new(isHex: true);
    private static readonly TextsByCount<(bool IsMariaDb, bool IsHex), Texts> Several = new(
        static (kind, count) => new Texts(kind.IsMariaDb, kind.IsHex, count));
    private static readonly LockStatement Kill = new(new LockCommand(new LockSql("kill connection_id()")));

    public override string Name => isMariaDb ? "MariaDB" : "MySQL";

    public override string SystemName => isMariaDb ? "mariadb" : "mysql";

    public override TimeSpan MaxTimeout => TimeSpan.FromSeconds(ForEverSeconds - 1);

    public override bool HasSeveral => true;

    public override LeaseDialect? Leases { get; } = new MySqlLeases(isMariaDb);

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
            throw new NotSupportedException(
                $"{Name} has no shared locks: leave LockOptions.Shared off, or lock on PostgreSQL or SQL Server.");
        }

        if (request.Scope == LockScope.Transaction)
        {
            throw new NotSupportedException(
                $"{Name} has no locks that end with a transaction: use LockScope.Session, and release after the commit.");
        }

        // MySQL rounds to whole seconds, so that 0.4 s would be no wait at all. It is rounded up here.
        var seconds = request.Milliseconds < 0 ? ForEverSeconds : request.Milliseconds / 1000.0;
        return new LockStatement(
            Command(texts => texts.Acquire, request, new LockParameter(DbType.Double, isMariaDb ? seconds : Math.Ceiling(seconds))))
        {
            Wait = request.Try ? null : request.Timeout,
        };
    }

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => new(Command(texts => texts.Undo, request));

    public override LockStatement IsHeld(in LockRequest request) => new(Command(texts => texts.IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(texts => texts.Release, request));

    // The answer NULL means that the wait was interrupted (KILL QUERY, max_statement_time), or that the function failed without an error.
    public override LockReply Read(in LockRequest request, object? answer) => new(answer switch
    {
        null or DBNull => LockOutcome.Cancelled,
        _ => Convert.ToInt64(answer, CultureInfo.InvariantCulture) == 1 ? LockOutcome.Acquired : LockOutcome.NotAcquired,
    });

    // https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and https://mariadb.com/kb/en/mariadb-error-code-reference/
    public override LockOutcome Read(DbError codes) => codes.Number switch
    {
        1213 or 3058 => LockOutcome.Deadlock, // ER_LOCK_DEADLOCK, ER_USER_LOCK_DEADLOCK
        1317 or 1969 or 3024 => LockOutcome.Cancelled, // ER_QUERY_INTERRUPTED, ER_STATEMENT_TIMEOUT (MariaDB), ER_QUERY_TIMEOUT (MySQL)

        // These mean: shutdown, killed, gone away, lost (two codes), idle for too long.
        1053 or 1927 or 2006 or 2013 or 2055 or 4031 => LockOutcome.ConnectionLost,
        0 => codes.SqlState is ['0', '8', ..] ? LockOutcome.ConnectionLost : LockOutcome.Unknown,
        _ => LockOutcome.Refused,
    };

    // Keys that the server takes for one name are locked once. A name that is not ASCII is sent in hexadecimal, because the server locks
    // the bytes that arrive, and a connection may be set up to send other bytes: CHARSET=latin1 over MariaDB's ODBC driver makes two names
    // one.
    private LockCommand Command(Func<Texts, LockSql> text, in LockRequest request, params ReadOnlySpan<LockParameter> more)
    {
        string[] names = [.. request.Key.Keys.DistinctBy(Identify).Select(ServerName)];
        if (names.Length > MostKeys)
        {
            throw new NotSupportedException(string.Create(
                CultureInfo.InvariantCulture, $"{Name} cannot lock {names.Length} keys in one statement, for which its stack is too "
                    + $"small: lock at most {MostKeys} at once, or one after the other in the same order everywhere."));
        }

        var isHex = !Array.TrueForAll(names, static name => Ascii.IsValid(name));
        var parameters = names.Select(
            name => new LockParameter(DbType.String, isHex ? Convert.ToHexString(Encoding.UTF8.GetBytes(name)) : name));
        var texts = names.Length > 1 ? Several.For((isMariaDb, isHex), names.Length) : isHex ? OneInHex : One;
        return new(text(texts), [.. parameters, .. more]);
    }

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

    /// <summary>The commands for a number of keys. The names are the first parameters.</summary>
    private sealed class Texts
    {
        /// <summary>Initializes the commands of one key, which both engines understand.</summary>
        public Texts(bool isHex)
        {
            var name = Name(0, isHex);
            Acquire = new($"select get_lock({name}, {{1}})");
            IsHeld = new($"select case when is_used_lock({name}) = connection_id() then 1 else 0 end");
            Undo = new($"select case when is_used_lock({name}) = connection_id() then coalesce(release_lock({name}), 0) else 0 end");
            Release = new($"select coalesce(release_lock({name}), 0)");
        }

        /// <summary>Initializes the commands of several keys.</summary>
        public Texts(bool isMariaDb, bool isHex, int count)
        {
            // An AND is evaluated from left to right and stops at the first key that is held elsewhere. sysdate() is the clock: now() would
            // stand still during the statement and would follow SET timestamp. A derived table with a LIMIT is evaluated once, before the
            // expressions that use it.
            var number = count.ToString(CultureInfo.InvariantCulture);
            var left = $"greatest(0, {{{number}}} - timestampdiff(microsecond, began.at, sysdate(6)) / 1000000)";
            var wait = isMariaDb ? left : $"ceil({left})";
            var giveBack = Each(
                " + ",
                name => $"case when is_used_lock({name}) = connection_id() then coalesce(release_lock({name}), 0) else 0 end");
            Acquire = new LockSql(
                $"select case taken.all_of_them when 1 then 1 else taken.all_of_them + 0 * ({giveBack}) end from (select "
                + $"{Each(" and ", name => $"get_lock({name}, {wait}) = 1")} as all_of_them "
                + "from (select sysdate(6) as at limit 1) as began limit 1) as taken");
            IsHeld = new LockSql($"select case when {Each(" and ", name => $"is_used_lock({name}) = connection_id()")} then 1 else 0 end");
            Undo = new LockSql($"select case when {giveBack} > 0 then 1 else 0 end");
            var released = Each(" + ", name => $"coalesce(release_lock({name}), 0)");
            Release = new LockSql($"select case when {released} = {number} then 1 else 0 end");

            string Each(string between, Func<string, string> text) =>
                string.Join(between, Enumerable.Range(0, count).Select(n => text(Name(n, isHex))));
        }

        private static string Name(int n, bool isHex) =>
            string.Create(CultureInfo.InvariantCulture, $"{(isHex ? "convert(unhex(" : "")}{{{n}}}{(isHex ? ") using utf8mb4)" : "")}");

        public LockSql Acquire { get; }

        public LockSql IsHeld { get; }

        public LockSql Undo { get; }

        public LockSql Release { get; }
    }
}
