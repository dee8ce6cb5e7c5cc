using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>SQL Server's application locks.</summary>
/// <remarks>
/// <see href="https://learn.microsoft.com/sql/relational-databases/system-stored-procedures/sp-getapplock-transact-sql"/>. A failure is a return code and no error, so the
/// code is selected and read. The lock belongs to a name (255 characters, compared exactly), within a database and the principal <c>public</c>.
/// </remarks>
internal sealed class SqlServerDialect : LockDialect
{
    private const int MaxNameLength = 255;

    private static readonly Texts Session = new("Session");
    private static readonly Texts Transaction = new("Transaction");

    public override string Name => "SQL Server";

    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override bool Speaks(string product) =>
        product.Contains(".SqlClient.", StringComparison.Ordinal) || product.Contains("SQL Server", StringComparison.OrdinalIgnoreCase);

    public override string Identify(LockKey key) => LongName.Shorten(key.Name, key.Name, MaxNameLength, static text => text.Length);

    public override LockStatement Acquire(in LockRequest request) =>
        new(Command(
            request.Shared ? For(request).AcquireShared : For(request).Acquire,
            request, new LockParameter(DbType.Int32, (int)request.Milliseconds)))
        {
            Wait = request.Try ? null : request.Timeout,
        };

    public override LockStatement Undo(in LockRequest request) => Release(request);

    public override LockStatement IsHeld(in LockRequest request) => new(Command(For(request).IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(For(request).Release, request));

    public override LockOutcome Read(object? answer) => answer switch
    {
        null or DBNull => LockOutcome.Unknown,
        _ => Convert.ToInt32(answer, CultureInfo.InvariantCulture) switch
        {
            0 or 1 => LockOutcome.Acquired, // at once, after a wait
            -1 => LockOutcome.NotAcquired,
            -2 => LockOutcome.Cancelled,
            -3 => LockOutcome.Deadlock,
            var code => throw new LockException(
                $"sp_getapplock answered {code}: it refused the call's parameters. The lock is not acquired; check the user's rights in this database and the transaction."),
        },
    };

    // https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors. 0 and -2 are the client's own (cancel, command timeout).
    public override LockOutcome Read(DbError codes) => codes.Number switch
    {
        1205 => LockOutcome.Deadlock,
        1222 => LockOutcome.NotAcquired,
        3930 => LockOutcome.TransactionAborted,
        596 or 64 or 121 or 233 or 10053 or 10054 or 10060 or 20006 or 20047 => LockOutcome.ConnectionLost, // killed, the network's, FreeTDS's
        <= 0 => codes.SqlState is ['0', '8', ..] ? LockOutcome.ConnectionLost : LockOutcome.Unknown,
        _ => codes.SqlState switch
        {
            ['0', '8', ..] => LockOutcome.ConnectionLost,
            "HYT00" or "HYT01" or "HY008" => LockOutcome.Unknown,
            _ => LockOutcome.Refused,
        },
    };

    private static Texts For(in LockRequest request) => request.Scope == LockScope.Session ? Session : Transaction;

    private LockCommand Command(LockSql sql, in LockRequest request, params ReadOnlySpan<LockParameter> more) =>
        new(sql, [new LockParameter(DbType.String, Identify(request.Key)), .. more]);

    /// <summary>The commands of one owner.</summary>
    private sealed class Texts(string owner)
    {
        public LockSql Acquire { get; } = AcquireIn("Exclusive", owner);

        public LockSql AcquireShared { get; } = AcquireIn("Shared", owner);

        public LockSql IsHeld { get; } = new($"select case when applock_mode('public', {{0}}, '{owner}') = 'NoLock' then 0 else 1 end");

        // Releasing what is not held would raise error 1223, so the server is asked first.
        public LockSql Release { get; } = new($"""
            declare @released int = -1;
            if applock_mode('public', {"{0}"}, '{owner}') <> 'NoLock'
              exec @released = sp_releaseapplock @Resource = {"{0}"}, @LockOwner = '{owner}';
            select case when @released = 0 then 1 else 0 end
            """);

        private static LockSql AcquireIn(string mode, string owner) => new($"""
            declare @answer int;
            exec @answer = sp_getapplock @Resource = {"{0}"}, @LockMode = '{mode}', @LockOwner = '{owner}', @LockTimeout = {"{1}"};
            select @answer
            """);
    }
}
