using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>PostgreSQL's advisory locks.</summary>
/// <remarks>
/// Functions: <see href="https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS"/>. All are strict, so the casts below never
/// see null. The parts of a CASE run in the order in which they are written, which PostgreSQL promises
/// (<see href="https://www.postgresql.org/docs/current/functions-conditional.html"/>); no other order of evaluation in a SELECT is.
/// </remarks>
internal sealed class PostgreSqlDialect : LockDialect
{
    private const int Standby = -1;
    private const int FakeLocks = -2;
    private const int Pooler = -3;

    private static readonly LockCommand Savepoint = new(new LockSql("savepoint dblock_acquire"));
    private static readonly LockCommand RollbackToSavepoint = new(new LockSql("rollback to savepoint dblock_acquire"));
    private static readonly LockCommand ReleaseSavepoint = new(new LockSql("release savepoint dblock_acquire"));
    private static readonly LockCommand NothingHeld = new(new LockSql("select 0"));
    private static readonly LockStatement Terminate = new(new LockCommand(new LockSql("select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")));

    private static readonly Texts Number = new(pair: false, shared: false);
    private static readonly Texts NumberShared = new(pair: false, shared: true);
    private static readonly Texts Pair = new(pair: true, shared: false);
    private static readonly Texts PairShared = new(pair: true, shared: true);

    public override string Name => "PostgreSQL";

    // lock_timeout is a 32-bit count of milliseconds: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override LockStatement? EndSession => Terminate;

    public override bool TakesSnapshot => true;

    public override bool Speaks(string product) =>
        product.Contains("Npgsql", StringComparison.OrdinalIgnoreCase) || product.Contains("PostgreSql", StringComparison.OrdinalIgnoreCase);

    public override string Identify(LockKey key) =>
        key.IsPair
            ? string.Create(CultureInfo.InvariantCulture, $"({key.Pair.First},{key.Pair.Second})")
            : key.Number.ToString(CultureInfo.InvariantCulture);

    public override LockStatement Acquire(in LockRequest request)
    {
        var texts = For(request);
        if (request.Try)
        {
            return new LockStatement(Command(request.Scope == LockScope.Session ? texts.Try : texts.TryTransaction, request, SessionId(request)));
        }

        var milliseconds = request.Milliseconds < 0 ? "0" : request.Milliseconds.ToString(CultureInfo.InvariantCulture);
        var wait = Command(
            request.Scope == LockScope.Session ? texts.Wait : texts.WaitTransaction,
            request, SessionId(request), new LockParameter(DbType.String, milliseconds));
        return (request.Scope, request.InTransaction) switch
        {
            // The savepoint is rolled back on success too: a session lock survives that, and what the wait needed (the transaction-level hold,
            // lock_timeout) does not. Left in place, that hold would keep the lock after its release, until commit.
            (LockScope.Session, true) => new LockStatement(Savepoint, wait, RollbackToSavepoint, ReleaseSavepoint) { Wait = request.Timeout },

            // Releasing a savepoint keeps the locks that were taken inside.
            (LockScope.Transaction, _) => new LockStatement(Savepoint, wait, ReleaseSavepoint) { Wait = request.Timeout },
            _ => new LockStatement(wait) { Wait = request.Timeout },
        };
    }

    public override LockStatement Undo(in LockRequest request)
    {
        var undo = request.Scope == LockScope.Session ? Command(For(request).Undo, request) : NothingHeld;
        return request.InTransaction && !request.Try ? new LockStatement(RollbackToSavepoint, ReleaseSavepoint, undo) : new LockStatement(undo);
    }

    public override LockStatement IsHeld(in LockRequest request) => new(Command(For(request).IsHeld, request));

    public override LockStatement Release(in LockRequest request) => new(Command(For(request).Release, request));

    // An error would cost the transaction, and the question is asked when a wait has just failed in it.
    public override LockStatement? Holders(in LockRequest request)
    {
        var question = Command(For(request).Holders, request);
        return request.InTransaction ? new LockStatement(Savepoint, question, ReleaseSavepoint) : new LockStatement(question);
    }

    public override LockHolders ReadHolders(LockKey key, object? answer) => PostgreSqlHolders.Read(key, answer);

    public override LockOutcome Read(object? answer) => answer switch
    {
        null or DBNull => LockOutcome.Unknown,
        _ => Convert.ToInt32(answer, CultureInfo.InvariantCulture) switch
        {
            1 => LockOutcome.Acquired,
            0 => LockOutcome.NotAcquired,
            Standby => throw OnStandby(),
            FakeLocks => throw new LockException(
                "This server is CockroachDB, whose session-level advisory locks answer true and lock nothing. Lock on a PostgreSQL server instead."),
            Pooler => throw new LockException(
                "A connection pooler (or Npgsql's Multiplexing) stands between this program and PostgreSQL, and could give one lock to two clients, as it does in "
                + "transaction mode. Connect to the server directly, or use LockScope.Transaction, or set LockOptions.TrustPooler if the pooler is in session mode."),
            var code => throw new LockException($"The server answered {code} where PostgreSQL answers whether the lock was taken: it is no PostgreSQL."),
        },
    };

    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    public override LockOutcome Read(DbError codes) => codes.SqlState switch
    {
        "55P03" => LockOutcome.NotAcquired,

        // No such savepoint: only Undo goes back to one, and a wait that did not come to make its own was not begun.
        "3B001" => LockOutcome.NotAcquired,
        "40P01" => LockOutcome.Deadlock,
        "57014" => LockOutcome.Cancelled,
        "25P02" => LockOutcome.TransactionAborted,
        "57P01" or "57P02" or "57P03" or "57P04" or "57P05" or "25P03" or "25P04" => LockOutcome.ConnectionLost,
        null or ['H', 'Y', ..] => LockOutcome.Unknown,
        ['0', '8', ..] => LockOutcome.ConnectionLost,
        _ => LockOutcome.Refused,
    };

    internal static LockException OnStandby() => new(
        "This server is a hot standby: its advisory locks are its own, and the primary would give the same lock to somebody else. "
        + "Connect to the primary (Npgsql: Target Session Attributes=primary).");

    private static Texts For(in LockRequest request) =>
        request.Key.IsPair ? (request.Shared ? PairShared : Pair) : request.Shared ? NumberShared : Number;

    // Only a hold of session scope outlives the statement or transaction that a pooler keeps on one server session.
    private static LockParameter SessionId(in LockRequest request) =>
        new(DbType.Int32, request.Scope == LockScope.Session ? request.SessionId ?? 0 : 0);

    private static LockCommand Command(LockSql sql, in LockRequest request, params ReadOnlySpan<LockParameter> more)
    {
        LockParameter[] parameters = request.Key.IsPair
            ? [new(DbType.Int32, request.Key.Pair.First), new(DbType.Int32, request.Key.Pair.Second), .. more]
            : [new(DbType.Int64, request.Key.Number), .. more];
        return new LockCommand(sql, parameters);
    }

    /// <summary>The commands of one kind of lock.</summary>
    private sealed class Texts
    {
        public Texts(bool pair, bool shared)
        {
            var key = pair ? "{0}::int, {1}::int" : "{0}::bigint";
            var sessionId = pair ? "{2}::int" : "{1}::int";
            var milliseconds = pair ? "{3}::text" : "{2}::text";
            var suffix = shared ? "_shared" : "";
            var mode = shared ? "ShareLock" : "ExclusiveLock";

            // Refused before the lock is touched, in the same round trip: a standby, a server without real locks, a session that is not ours.
            var guard = $"""
                select case
                  when pg_catalog.pg_is_in_recovery() then {Standby}
                  when pg_catalog.version() like '%CockroachDB%' then {FakeLocks}
                  when {sessionId} <> 0 and {sessionId} <> pg_catalog.pg_backend_pid() then {Pooler}

                """;
            Try = new LockSql($"{guard}  when pg_catalog.pg_try_advisory_lock{suffix}({key}) then 1 else 0 end");
            TryTransaction = new LockSql($"{guard}  when pg_catalog.pg_try_advisory_xact_lock{suffix}({key}) then 1 else 0 end");

            // A wait that fails may have been granted in that instant, and a session lock would stay. So the wait is for the transaction-level lock,
            // which goes with the failed statement; then the session lock cannot wait any more. pg_sleep(0) is there for its check for interrupts: a
            // timeout or cancel that fired during the wait ends the statement here, before the session lock is taken. Without that check it would be
            // noticed only after it. The try comes first so that a free lock never has a transaction-level hold.
            Wait = new LockSql($"""
                {guard}  when pg_catalog.pg_try_advisory_lock{suffix}({key}) then 1
                  when pg_catalog.set_config('lock_timeout', {milliseconds}, true) is null then null
                  when pg_catalog.pg_advisory_xact_lock{suffix}({key}) is null then null
                  when pg_catalog.pg_sleep(0) is null then null
                  when pg_catalog.pg_advisory_lock{suffix}({key}) is null then null
                  else 1 end
                """);
            WaitTransaction = new LockSql($"""
                {guard}  when pg_catalog.set_config('lock_timeout', {milliseconds}, true) is null then null
                  when pg_catalog.pg_advisory_xact_lock{suffix}({key}) is null then null
                  when pg_catalog.set_config('lock_timeout', before.lock_timeout, true) is null then null
                  else 1 end
                from (select pg_catalog.current_setting('lock_timeout') as lock_timeout offset 0) as before
                """);

            // pg_locks has one row for a session's lock, however often it was taken. Its key columns are unsigned; the shift makes the number signed again.
            var number = pair ? "(({0}::bigint << 32) | ({1}::bigint & 4294967295))" : "{0}::bigint";
            var isKey = $"""
                l.objsubid = {(pair ? 2 : 1)} and ((l.classid::bigint << 32) | l.objid::bigint) = {number}
                    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
                """;
            var held = $"""
                exists (select 1 from pg_catalog.pg_locks as l
                  where l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = '{mode}' and {isKey})
                """;
            var unlock = $"pg_catalog.pg_advisory_unlock{suffix}({key})";
            IsHeld = new LockSql($"select case when {held} then 1 else 0 end");
            Undo = new LockSql($"select case when {held} then case when {unlock} then 1 else 0 end else 0 end");
            Release = new LockSql($"select case when {unlock} then 1 else 0 end");
            Holders = PostgreSqlHolders.Question(isKey);
        }

        public LockSql Try { get; }

        public LockSql TryTransaction { get; }

        public LockSql Wait { get; }

        public LockSql WaitTransaction { get; }

        public LockSql IsHeld { get; }

        public LockSql Undo { get; }

        public LockSql Release { get; }

        public LockSql Holders { get; }
    }
}
