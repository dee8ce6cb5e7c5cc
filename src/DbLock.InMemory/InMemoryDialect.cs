using System.Data;

namespace DbLock;

/// <summary>
/// The statements for a server in memory. Its locks are those of PostgreSQL: numbers and pairs, shared or not, of a session or a
/// transaction.
/// </summary>
internal sealed class InMemoryDialect : LockDialect
{
    // The texts are never parsed: the driver knows them by their identity.
    public static readonly LockSql AcquireSql = new("acquire, waiting {0} ms; shared {1}; in the transaction {2}; fencing {3}");
    public static readonly LockSql UndoSql = new("undo");
    public static readonly LockSql IsHeldSql = new("is held; shared {0}");
    public static readonly LockSql ReleaseSql = new("release; shared {0}");

    public static InMemoryDialect Instance { get; } = new();

    public override string Name => "DbLock in memory";

    public override string SystemName => "other_sql";

    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override bool HasSeveral => true;

    public override bool HasFencing => true;

    public override LockCarrier Carrier { get; } = new InMemoryCarrier();

    public override bool Speaks(string product) => product.Contains(nameof(InMemoryConnection), StringComparison.Ordinal);

    public override string Identify(LockKey key) => LockDialect.PostgreSql.Identify(key);

    public override LockStatement Acquire(in LockRequest request) => new(Command(
        AcquireSql,
        request,
        new(DbType.Int64, request.Milliseconds),
        new(DbType.Int32, request.Shared ? 1 : 0),
        new(DbType.Int32, request.Scope == LockScope.Transaction ? 1 : 0),
        new(DbType.Int32, request.Fencing ? 1 : 0)))
    {
        Wait = request.Try ? null : request.Timeout,
    };

    // There is nothing to undo: an acquire that fails has taken nothing.
    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => new(new LockCommand(UndoSql));

    public override LockStatement IsHeld(in LockRequest request) =>
        new(Command(IsHeldSql, request, new LockParameter(DbType.Int32, request.Shared ? 1 : 0)));

    public override LockStatement Release(in LockRequest request) =>
        new(Command(ReleaseSql, request, new LockParameter(DbType.Int32, request.Shared ? 1 : 0)));

    public override LockReply Read(in LockRequest request, object? answer) => answer is > 0L and long token
        ? new(LockOutcome.Acquired) { FencingToken = request.Fencing ? token : 0 }
        : new(LockOutcome.NotAcquired);

    public override LockOutcome Read(DbError codes) => codes.SqlState is null ? LockOutcome.Cancelled : LockDialect.PostgreSql.Read(codes);

    private LockCommand Command(LockSql sql, in LockRequest request, params LockParameter[] more) =>
        new(sql, [.. more, .. request.Key.Keys.Select(key => new LockParameter(DbType.String, Identify(key)))]);
}
