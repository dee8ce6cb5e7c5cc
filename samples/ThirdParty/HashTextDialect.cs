using System.Data;
using System.Globalization;
using DbLock;
using DbLock.Drivers;

namespace ThirdParty;

/// <summary>
/// PostgreSQL's advisory locks under numbers that the server computes from the name, <c>hashtextextended(name collate "C", 0)</c>, as the Node.js package
/// pg-advisory-lock 2 does it: a lock shared with such a program needs no agreement on a hash function.
/// </summary>
public sealed class HashTextDialect : LockDialect
{
    private const string Key = """pg_catalog.hashtextextended({0}::text collate "C", 0)""";

    private static readonly LockCommand Savepoint = new(new LockSql("savepoint hashtext"));
    private static readonly LockCommand RollbackToSavepoint = new(new LockSql("rollback to savepoint hashtext"));
    private static readonly LockCommand ReleaseSavepoint = new(new LockSql("release savepoint hashtext"));
    private static readonly LockStatement Terminate = new(new LockCommand(new LockSql("select pg_terminate_backend(pg_backend_pid())")));

    private static readonly Texts Exclusive = new("", "ExclusiveLock");
    private static readonly Texts Shared = new("_shared", "ShareLock");

    public override string Name => "PostgreSQL (hashtextextended)";

    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override bool TakesSnapshot => true;

    public override LockStatement? EndSession => Terminate;

    public override bool Speaks(string product) => product.Contains("Npgsql", StringComparison.Ordinal);

    public override string Identify(LockKey key) => key.Name;

    public override LockStatement Acquire(in LockRequest request)
    {
        var texts = For(request);
        if (request.Try)
        {
            return new(Command(request.Scope == LockScope.Session ? texts.Try : texts.TryTransaction, request));
        }

        var milliseconds = Math.Max(0, request.Milliseconds).ToString(CultureInfo.InvariantCulture);
        var wait = Command(
            request.Scope == LockScope.Session ? texts.Wait : texts.WaitTransaction, request, new LockParameter(DbType.String, milliseconds));
        return (request.Scope, request.InTransaction) switch
        {
            (LockScope.Session, true) => new(Savepoint, wait, RollbackToSavepoint, ReleaseSavepoint) { Wait = request.Timeout },
            (LockScope.Transaction, _) => new(Savepoint, wait, ReleaseSavepoint) { Wait = request.Timeout },
            _ => new(wait) { Wait = request.Timeout },
        };
    }

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome)
    {
        var undo = Command(request.Scope == LockScope.Session ? For(request).Undo : For(request).IsHeld, request);
        return request.InTransaction && !request.Try ? new(RollbackToSavepoint, ReleaseSavepoint, undo) : new(undo);
    }

    public override LockStatement IsHeld(in LockRequest request) => new(Command(For(request).IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(For(request).Release, request));

    public override LockReply Read(in LockRequest request, object? answer) => new(answer switch
    {
        1 => LockOutcome.Acquired,
        0 => LockOutcome.NotAcquired,
        _ => LockOutcome.Unknown,
    });

    // The codes are PostgreSQL's, and so is what they mean.
    public override LockOutcome Read(DbError codes) => LockDialect.PostgreSql.Read(codes);

    private static Texts For(in LockRequest request) => request.Shared ? Shared : Exclusive;

    private static LockCommand Command(LockSql sql, in LockRequest request, params ReadOnlySpan<LockParameter> more) =>
        new(sql, [new LockParameter(DbType.String, request.Key.Name), .. more]);

    private sealed class Texts(string suffix, string mode)
    {
        private readonly string _held = $$"""
            exists (select 1 from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted and mode = '{{mode}}' and objsubid = 1
              and ((classid::bigint << 32) | objid::bigint) = {{Key}})
            """;

        public LockSql Try { get; } = new($"select case when pg_try_advisory_lock{suffix}({Key}) then 1 else 0 end");

        public LockSql TryTransaction { get; } = new($"select case when pg_try_advisory_xact_lock{suffix}({Key}) then 1 else 0 end");

        // See DbLock's own dialect for why a wait takes the transaction-level lock first.
        public LockSql Wait { get; } = new($$"""
            select case
              when pg_try_advisory_lock{{suffix}}({{Key}}) then 1
              when set_config('lock_timeout', {1}::text, true) is null then null
              when pg_advisory_xact_lock{{suffix}}({{Key}}) is null then null
              when pg_sleep(0) is null then null
              when pg_advisory_lock{{suffix}}({{Key}}) is null then null
              else 1 end
            """);

        public LockSql WaitTransaction { get; } = new($$"""
            select case
              when set_config('lock_timeout', {1}::text, true) is null then null
              when pg_advisory_xact_lock{{suffix}}({{Key}}) is null then null
              when set_config('lock_timeout', before.lock_timeout, true) is null then null
              else 1 end
            from (select current_setting('lock_timeout') as lock_timeout offset 0) as before
            """);

        public LockSql IsHeld => field ??= new($"select case when {_held} then 1 else 0 end");

        public LockSql Undo => field ??= new($"select case when {_held} then case when pg_advisory_unlock{suffix}({Key}) then 1 else 0 end else 0 end");

        public LockSql Release { get; } = new($"select case when pg_advisory_unlock{suffix}({Key}) then 1 else 0 end");
    }
}
