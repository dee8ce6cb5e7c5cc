using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>SQL Server's application locks.</summary>
/// <remarks>
/// <see href="https://learn.microsoft.com/sql/relational-databases/system-stored-procedures/sp-getapplock-transact-sql"/>. A failure is a
/// return code and no error, so the code is selected and read. The lock belongs to a name (255 characters, compared exactly), within a
/// database and the principal <c>public</c>.
/// </remarks>
internal sealed class SqlServerDialect : LockDialect
{
    private const int MaxNameLength = 255;

    private static readonly TextsByCount<string, SqlServerTexts> All = new(static (owner, count) => new SqlServerTexts(owner, count));

    public override string Name => "SQL Server";

    public override string SystemName => "microsoft.sql_server";

    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override bool HasSeveral => true;

    public override bool IsPerDatabase => true;

    public override LeaseDialect? Leases { get; } = new SqlServerLeases();

    public override bool HasFencing => true;

    // https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors: 208, invalid object name
    public override string? Explain(in LockRequest request, DbError codes) => request.Fencing && codes.Number == 208
        ? $"Fencing tokens come from a sequence, and this database has none: create sequence {SqlServerTexts.Sequence} as bigint "
            + "start with 1 increment by 1, and grant update on it to whoever locks."
        : null;

    public override LockCarrier Carrier => field ??= new SqlServerCarrier(Identify);

    public override bool Speaks(string product) =>
        product.Contains(".SqlClient.", StringComparison.Ordinal) || product.Contains("SQL Server", StringComparison.OrdinalIgnoreCase);

    public override string Identify(LockKey key) => LongName.Shorten(key.Name, key.Name, MaxNameLength, static text => text.Length);

    public override LockStatement Acquire(in LockRequest request) =>
        new(Command(
            (request.Shared, request.Fencing) switch
            {
                (false, false) => static texts => texts.Acquire,
                (true, false) => static texts => texts.AcquireShared,
                (false, true) => static texts => texts.AcquireFenced,
                (true, true) => static texts => texts.AcquireFencedShared,
            },
            request, new LockParameter(DbType.Int32, (int)request.Milliseconds)))
        {
            Wait = request.Try ? null : request.Timeout,
        };

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => Release(request);

    public override LockStatement IsHeld(in LockRequest request) => new(Command(static texts => texts.IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(static texts => texts.Release, request));

    public override LockStatement Holders(in LockRequest request) =>
        SqlServerHolders.Question(request.Key.Keys.Select(Identify).Distinct());

    // Of several keys, the first that is held.
    public override LockHolders ReadHolders(LockKey key, object? answer)
    {
        var all = SqlServerHolders.Read(key.Keys, Identify, answer);
        return Array.Find(all, static one => one.Count > 0) ?? all[0];
    }

    public override LockReply Read(in LockRequest request, object? answer) =>
        request.Fencing && answer is not (null or DBNull) && Convert.ToInt64(answer, CultureInfo.InvariantCulture) is > 0 and var token
            ? new(LockOutcome.Acquired) { FencingToken = token } : new(OutcomeOf(answer));

    private static LockOutcome OutcomeOf(object? answer) => answer switch
    {
        null or DBNull => LockOutcome.Unknown,
        _ => Convert.ToInt32(answer, CultureInfo.InvariantCulture) switch
        {
            0 or 1 => LockOutcome.Acquired, // at once, after a wait
            -1 => LockOutcome.NotAcquired,
            -2 => LockOutcome.Cancelled,
            -3 => LockOutcome.Deadlock,
            SqlServerTexts.ReadOnly => throw SqlServerTexts.NotWritable(),
            var code => throw new LockException(
                $"sp_getapplock answered {code.ToString(CultureInfo.InvariantCulture)}: it refused the call's parameters. The lock is "
                + "not acquired; check the user's rights in this database and the transaction."),
        },
    };

    // https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors. The numbers 0 and -2 are made
    // by the client, for a cancel and a command timeout.
    public override LockOutcome Read(DbError codes) => codes.Number switch
    {
        1205 => LockOutcome.Deadlock,
        1222 => LockOutcome.NotAcquired,
        3930 => LockOutcome.TransactionAborted,

        // These mean that the session was killed (596), that the network failed, or are FreeTDS's own (20003 and above).
        596 or 64 or 121 or 233 or 10053 or 10054 or 10060 => LockOutcome.ConnectionLost,
        20003 or 20004 or 20006 or 20017 or 20047 => LockOutcome.ConnectionLost,
        <= 0 => codes.SqlState is ['0', '8', ..] ? LockOutcome.ConnectionLost : LockOutcome.Unknown,
        _ => codes.SqlState switch
        {
            ['0', '8', ..] => LockOutcome.ConnectionLost,
            "HYT00" or "HYT01" or "HY008" => LockOutcome.Unknown,
            _ => LockOutcome.Refused,
        },
    };

    // Keys that the server takes for one name are locked once.
    private LockCommand Command(Func<SqlServerTexts, LockSql> sql, in LockRequest request, params ReadOnlySpan<LockParameter> more)
    {
        LockParameter[] names = [.. request.Key.Keys.Select(Identify).Distinct().Select(name => new LockParameter(DbType.String, name))];
        var owner = request.Scope == LockScope.Session ? "Session" : "Transaction";
        return new(sql(All.For(owner, names.Length)), [.. names, .. more]);
    }
}
