using System.Globalization;

namespace DbLock;

/// <summary>The commands of one owner for a number of names, which are the first parameters.</summary>
internal sealed class SqlServerTexts
{
    /// <summary>
    /// The answer where the database cannot be written. On a readable secondary locks are its own, and the primary would give the same lock
    /// to somebody else.
    /// </summary>
    public const int ReadOnly = -1001;

    /// <summary>The sequence of the fencing tokens, in the database of the locks.</summary>
    public const string Sequence = "dbo.dblock_fencing";

    /// <summary>
    /// SQL that is <see cref="ReadOnly"/> or 0. It reads no table, which would begin a transaction where IMPLICIT_TRANSACTIONS is on.
    /// </summary>
    public static readonly string Trust = string.Create(
        CultureInfo.InvariantCulture, $"case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then {ReadOnly} else 0 end");

    // sp_getapplock needs a transaction and begins none. Where IMPLICIT_TRANSACTIONS is on, as Microsoft's ODBC driver sets it, the read of
    // a table begins the transaction that the caller means to be in; BEGIN TRAN would begin a second one inside of it.
    // https://learn.microsoft.com/sql/t-sql/statements/set-implicit-transactions-transact-sql
    private const string BeginImplicit = """
        declare @begun int;
        if @@trancount = 0 and @@options & 2 = 2 select @begun = count(*) from (select top (1) object_id from sys.objects) as one;

        """;

    // A token leaves room for the grants of a pool in memory. Where there is no sequence, this fails after the grant, which is undone.
    private const string Fenced = $"""
        declare @token bigint = @answer;
        if @answer >= 0
        begin
          set @token = next value for {Sequence};
          set @token = @token * 1024;
        end;
        select @token
        """;

    private readonly string _owner;

    public SqlServerTexts(string owner, int count)
    {
        _owner = owner;
        var number = count.ToString(CultureInfo.InvariantCulture);
        Acquire = count == 1 ? AcquireOne("Exclusive") : AcquireSeveral("Exclusive");
        AcquireShared = count == 1 ? AcquireOne("Shared") : AcquireSeveral("Shared");
        AcquireFenced = count == 1 ? AcquireOne("Exclusive", Fenced) : AcquireSeveral("Exclusive", Fenced);
        AcquireFencedShared = count == 1 ? AcquireOne("Shared", Fenced) : AcquireSeveral("Shared", Fenced);

        // Outside of a transaction the mode of a transaction's lock is an error (3918), which a cancel under XACT_ABORT leads to. The parts
        // of a CASE run in their order.
        var isNotHeld = string.Join(" or ", Names().Select(name => $"{Mode(name)} = 'NoLock'"));
        IsHeld = new LockSql($"select case when {(IsOfTransaction ? "@@trancount = 0 then 0 when " : "")}{isNotHeld} then 0 else 1 end");

        // The server is asked first, because releasing a lock that is not held raises error 1223.
        Release = new LockSql($"""
            declare @code int, @released int = 0;
            {string.Join("\n", Names().Select(name => $"""
                set @code = -1;
                {(IsOfTransaction ? "if @@trancount > 0 " : "")}if {Mode(name)} <> 'NoLock'
                  exec @code = sp_releaseapplock @Resource = {name}, @LockOwner = '{owner}';
                if @code = 0 set @released = @released + 1;
                """))}
            select case when @released = {number} then 1 else 0 end
            """);

        IEnumerable<string> Names() => Enumerable.Range(0, count).Select(n => string.Create(CultureInfo.InvariantCulture, $"{{{n}}}"));

        LockSql AcquireOne(string mode, string answer = "select @answer") => new($$"""
            {{Begin}}declare @answer int = {{Trust}};
            if @answer = 0
              exec @answer = sp_getapplock @Resource = {0}, @LockMode = '{{mode}}', @LockOwner = '{{owner}}', @LockTimeout = {1};
            {{answer}}
            """);

        // All names share the timeout. After a failure, those that were taken are let go.
        LockSql AcquireSeveral(string mode, string answer = "select @answer") => new($$"""
            {{Begin}}declare @answer int = {{Trust}}, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
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
            {{answer}}
            """);
    }

    public LockSql Acquire { get; }

    public LockSql AcquireShared { get; }

    /// <summary>Gets the acquire that answers with a fencing token, or with the code of a failure.</summary>
    public LockSql AcquireFenced { get; }

    /// <summary>Gets the same of a shared lock.</summary>
    public LockSql AcquireFencedShared { get; }

    public LockSql IsHeld { get; }

    public LockSql Release { get; }

    /// <summary>Returns the exception for a database that cannot be written.</summary>
    public static LockException NotWritable() => new(
        "This database cannot be written: it is a readable secondary, whose locks are its own, so that the primary would give the same "
        + "lock to somebody else, or it is set to READ_ONLY. Connect to the primary, or lock in another database.");

    private bool IsOfTransaction => _owner == "Transaction";

    private string Begin => IsOfTransaction ? BeginImplicit : "";

    private string Mode(string name) => $"applock_mode('public', {name}, '{_owner}')";
}
