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

    private static readonly TextsByCount<string, Texts> All = new(static (owner, count) => new Texts(owner, count));

    public override string Name => "SQL Server";

    public override string SystemName => "microsoft.sql_server";

    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override bool HasSeveral => true;

    public override LeaseDialect? Leases { get; } = new SqlServerLeases();

    public override bool Speaks(string product) =>
        product.Contains(".SqlClient.", StringComparison.Ordinal) || product.Contains("SQL Server", StringComparison.OrdinalIgnoreCase);

    public override string Identify(LockKey key) => LongName.Shorten(key.Name, key.Name, MaxNameLength, static text => text.Length);

    public override LockStatement Acquire(in LockRequest request) =>
        new(Command(
            request.Shared ? static texts => texts.AcquireShared : static texts => texts.Acquire,
            request, new LockParameter(DbType.Int32, (int)request.Milliseconds)))
        {
            Wait = request.Try ? null : request.Timeout,
        };

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => Release(request);

    public override LockStatement IsHeld(in LockRequest request) => new(Command(static texts => texts.IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(static texts => texts.Release, request));

    public override LockReply Read(in LockRequest request, object? answer) => new(answer switch
    {
        null or DBNull => LockOutcome.Unknown,
        _ => Convert.ToInt32(answer, CultureInfo.InvariantCulture) switch
        {
            0 or 1 => LockOutcome.Acquired, // at once, after a wait
            -1 => LockOutcome.NotAcquired,
            -2 => LockOutcome.Cancelled,
            -3 => LockOutcome.Deadlock,
            var code => throw new LockException(
                $"sp_getapplock answered {code.ToString(CultureInfo.InvariantCulture)}: it refused the call's parameters. The lock is "
                + "not acquired; check the user's rights in this database and the transaction."),
        },
    });

    // https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors. The numbers 0 and -2 are made
    // by the client, for a cancel and a command timeout.
    public override LockOutcome Read(DbError codes) => codes.Number switch
    {
        1205 => LockOutcome.Deadlock,
        1222 => LockOutcome.NotAcquired,
        3930 => LockOutcome.TransactionAborted,

        // These mean that the session was killed (596), that the network failed, or are FreeTDS's own.
        596 or 64 or 121 or 233 or 10053 or 10054 or 10060 or 20006 or 20047 => LockOutcome.ConnectionLost,
        <= 0 => codes.SqlState is ['0', '8', ..] ? LockOutcome.ConnectionLost : LockOutcome.Unknown,
        _ => codes.SqlState switch
        {
            ['0', '8', ..] => LockOutcome.ConnectionLost,
            "HYT00" or "HYT01" or "HY008" => LockOutcome.Unknown,
            _ => LockOutcome.Refused,
        },
    };

    // Keys that the server takes for one name are locked once.
    private LockCommand Command(Func<Texts, LockSql> sql, in LockRequest request, params ReadOnlySpan<LockParameter> more)
    {
        LockParameter[] names = [.. request.Key.Keys.Select(Identify).Distinct().Select(name => new LockParameter(DbType.String, name))];
        var owner = request.Scope == LockScope.Session ? "Session" : "Transaction";
        return new(sql(All.For(owner, names.Length)), [.. names, .. more]);
    }

    /// <summary>The commands of one owner for a number of names, which are the first parameters.</summary>
    private sealed class Texts
    {
        public Texts(string owner, int count)
        {
            var number = count.ToString(CultureInfo.InvariantCulture);
            Acquire = count == 1 ? AcquireOne("Exclusive") : AcquireSeveral("Exclusive");
            AcquireShared = count == 1 ? AcquireOne("Shared") : AcquireSeveral("Shared");
            var isNotHeld = string.Join(" or ", Names().Select(name => $"applock_mode('public', {name}, '{owner}') = 'NoLock'"));
            IsHeld = new LockSql($"select case when {isNotHeld} then 0 else 1 end");

            // The server is asked first, because releasing a lock that is not held raises error 1223.
            Release = new LockSql($"""
                declare @code int, @released int = 0;
                {string.Join("\n", Names().Select(name => $"""
                    set @code = -1;
                    if applock_mode('public', {name}, '{owner}') <> 'NoLock'
                      exec @code = sp_releaseapplock @Resource = {name}, @LockOwner = '{owner}';
                    if @code = 0 set @released = @released + 1;
                    """))}
                select case when @released = {number} then 1 else 0 end
                """);

            IEnumerable<string> Names() => Enumerable.Range(0, count).Select(n => string.Create(CultureInfo.InvariantCulture, $"{{{n}}}"));

            LockSql AcquireOne(string mode) => new($$"""
                declare @answer int;
                exec @answer = sp_getapplock @Resource = {0}, @LockMode = '{{mode}}', @LockOwner = '{{owner}}', @LockTimeout = {1};
                select @answer
                """);

            // All names share the timeout. After a failure, those that were taken are let go.
            LockSql AcquireSeveral(string mode) => new($$"""
                declare @answer int = 0, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
                {{string.Join("\n", Names().Select(name => $$"""
                    if @answer >= 0
                    begin
                      set @left = case when {{{number}}} <= 0 then {{{number}}}
                        when datediff_big(millisecond, @start, sysutcdatetime()) >= {{{number}}} then 0
                        else {{{number}}} - datediff_big(millisecond, @start, sysutcdatetime()) end;
                      exec @answer = sp_getapplock @Resource = {{name}}, @LockMode = '{{mode}}', @LockOwner = '{{owner}}',
                          @LockTimeout = @left;
                      if @answer >= 0 set @taken = @taken + 1;
                    end
                    """))}}
                {{string.Join("\n", Names().Select((name, n) => string.Create(
                    CultureInfo.InvariantCulture,
                    $"if @answer < 0 and @taken > {n} exec sp_releaseapplock @Resource = {name}, @LockOwner = '{owner}';")))}}
                select @answer
                """);
        }

        public LockSql Acquire { get; }

        public LockSql AcquireShared { get; }

        public LockSql IsHeld { get; }

        public LockSql Release { get; }
    }
}
