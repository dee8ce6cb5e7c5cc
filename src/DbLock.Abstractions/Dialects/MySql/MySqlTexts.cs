using System.Buffers;
using System.Data;
using System.Globalization;
using System.Text;

namespace DbLock;

/// <summary>The commands for a number of keys. The names are the first parameters.</summary>
/// <remarks>
/// The server locks the bytes of a name in the character set in which they arrive, so that a connection's character set would make two
/// names one, or one name two: <c>CHARSET=latin1</c> over MariaDB's ODBC driver, <c>SET character_set_connection = ucs2</c>. So each name
/// is converted to utf8mb4, and a name with characters that have not the same byte in every character set is sent in hexadecimal.
/// </remarks>
internal sealed class MySqlTexts
{
    /// <summary>The sequence of MariaDB's fencing tokens, in the database of the connection.</summary>
    public const string Sequence = "dblock_fencing";

    /// <summary>
    /// SQL of a fencing token (https://mariadb.com/kb/en/sequence-overview/), which leaves room for the grants of a pool in memory.
    /// </summary>
    public const string Token = $"nextval({Sequence}) * 1024";

    // swe7 has letters in the place of @ [ \ ] ^ ` { | } ~, and others have something else in the place of the backslash.
    private static readonly SearchValues<char> Plain = SearchValues.Create(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 !\"#$%&'()*+,-./:;<=>?_");

    /// <summary>Initializes the commands of one key, which both engines understand.</summary>
    public MySqlTexts(bool isHex)
    {
        var name = Name(0, isHex);
        Acquire = new($"select get_lock({name}, {{1}})");
        AcquireFenced = new($"select case get_lock({name}, {{1}}) when 1 then {Token} when 0 then 0 end");
        IsHeld = new($"select case when is_used_lock({name}) = connection_id() then 1 else 0 end");
        Undo = new($"select {GiveBack(name)}");
        Release = new($"select coalesce(release_lock({name}), 0)");
    }

    /// <summary>Initializes the commands of several keys.</summary>
    public MySqlTexts(bool isMariaDb, bool isHex, int count)
    {
        // An AND of any number of parts is evaluated from left to right and stops at the first key that is held elsewhere. So are the
        // arguments of concat(), of which there may be any number: a sum would nest, deeper than the thread stack of the server allows
        // (measured with 1,000 keys). sysdate() is the clock: now() would stand still during the statement and would follow SET timestamp.
        // A derived table with a LIMIT is evaluated once, before the expressions that use it.
        var number = count.ToString(CultureInfo.InvariantCulture);
        var left = $"greatest(0, {{{number}}} - timestampdiff(microsecond, began.at, sysdate(6)) / 1000000)";
        var wait = isMariaDb ? left : $"ceil({left})";
        var giveBack = $"concat({Each(", ", GiveBack)})";
        (Acquire, AcquireFenced) = (AcquireAll("1"), AcquireAll(Token));
        (AcquireAny, AcquireAnyFenced) = (Any("1"), Any(Token));
        IsHeld = new LockSql($"select case when {Each(" and ", name => $"is_used_lock({name}) = connection_id()")} then 1 else 0 end");
        Undo = new LockSql($"select case when locate('1', {giveBack}) > 0 then 1 else 0 end");
        var released = $"concat({Each(", ", name => $"coalesce(release_lock({name}), 0)")})";
        Release = new LockSql($"select case when locate('0', {released}) > 0 then 0 else 1 end");

        LockSql AcquireAll(string granted) => new(
            $"select case taken.all_of_them when 1 then {granted} else taken.all_of_them + 0 * length({giveBack}) end from (select "
            + $"{Each(" and ", name => $"get_lock({name}, {wait}) = 1")} as all_of_them "
            + "from (select sysdate(6) as at limit 1) as began limit 1) as taken");

        // The parts of a CASE run in their order, until one is true.
        LockSql Any(string granted) => new("select case " + string.Join(" ", Enumerable.Range(0, count).Select(n => string.Create(
            CultureInfo.InvariantCulture, $"when get_lock({Name(n, isHex)}, 0) = 1 then ({granted}) * 1024 + {n + 1}"))) + " else 0 end");

        string Each(string between, Func<string, string> text) =>
            string.Join(between, Enumerable.Range(0, count).Select(n => text(Name(n, isHex))));
    }

    /// <summary>
    /// What stands before a statement of MariaDB's that uses json_arrayagg(), whose answer it cuts at the session's limit:
    /// https://mariadb.com/kb/en/json_arrayagg/. A number above the largest (1,073,741,824 in 10.11) is an error in a strict mode.
    /// </summary>
    public const string Whole = "set statement group_concat_max_len=1073741824 for ";

    public LockSql Acquire { get; }

    /// <summary>
    /// Gets the acquire that answers with a fencing token. Where there is no sequence, it fails before anything is taken.
    /// </summary>
    public LockSql AcquireFenced { get; }

    /// <summary>Gets the try of several keys of which one is enough; null for the commands of a single key.</summary>
    public LockSql AcquireAny { get; } = null!;

    /// <summary>Gets the same with a fencing token.</summary>
    public LockSql AcquireAnyFenced { get; } = null!;

    public LockSql IsHeld { get; }

    public LockSql Undo { get; }

    public LockSql Release { get; }

    /// <summary>Says whether a name arrives as it is, whatever the connection's character set.</summary>
    public static bool IsPlain(string name) => !name.AsSpan().ContainsAnyExcept(Plain);

    /// <summary>Returns the parameter that stands for a name in <see cref="Name"/>.</summary>
    public static LockParameter Parameter(string name, bool isHex) =>
        new(DbType.String, isHex ? Convert.ToHexString(Encoding.UTF8.GetBytes(name)) : name);

    /// <summary>Returns the SQL of a name.</summary>
    public static string Name(int n, bool isHex) => string.Create(
        CultureInfo.InvariantCulture, $"convert({(isHex ? $"unhex(convert({{{n}}} using latin1))" : $"{{{n}}}")} using utf8mb4)");

    private static string GiveBack(string name) =>
        $"case when is_used_lock({name}) = connection_id() then coalesce(release_lock({name}), 0) else 0 end";
}
