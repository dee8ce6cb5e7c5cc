using System.Collections.Concurrent;
using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>PostgreSQL's advisory locks.</summary>
/// <remarks>
/// Functions: <see href="https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS"/>. All are strict, so the
/// casts below never see null. The parts of a CASE run in the order in which they are written, which PostgreSQL promises
/// (<see href="https://www.postgresql.org/docs/current/functions-conditional.html"/>); no other order of evaluation in a SELECT is.
/// </remarks>
internal sealed class PostgreSqlDialect : LockDialect
{
    private const int Standby = -1;
    private const int FakeLocks = -2;
    internal const int Pooler = -3;
    private const int Numbered = -4;
    private const int AlreadyHeld = 3;

    // The grant came after a wait, and the lock that the wait was for is the transaction's until it ends. The release answers the same
    // where that is so still.
    private const int AfterWait = 2;

    internal const string Locks = PgSession.OwnLocks;

    /// <summary>Gets the parts of a CASE that look whether the server's locks can be trusted at all.</summary>
    internal static readonly string Untrusted = string.Create(
        CultureInfo.InvariantCulture, $"  when pg_catalog.pg_is_in_recovery() then {Standby}\n  when pg_catalog.version() like "
            + $"'%CockroachDB%' then {FakeLocks}\n");

    /// <summary>
    /// A fencing token: the timeline, which grows with each failover, before the number of this transaction, before room for grants in
    /// memory (<see cref="LockPool"/>). The transaction is numbered after the grant. It must write something, and its commit must reach the
    /// disk, or a crash would let its number be given again (tried).
    /// </summary>
    /// <remarks>
    /// Functions: https://www.postgresql.org/docs/current/functions-admin.html, https://www.postgresql.org/docs/current/functions-info.html
    /// </remarks>
    internal const string Token = """
        case when pg_catalog.current_setting('synchronous_commit') = 'off' and pg_catalog.set_config('synchronous_commit', 'local', true) is null then null
          when pg_catalog.pg_logical_emit_message(true, 'dblock'::pg_catalog.text, ''::pg_catalog.text) is null then null
          else (('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint << 50)
            | (pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint << 10) end
        """;

    private static readonly LockCommand Savepoint = new(new LockSql("savepoint dblock_acquire"));
    private static readonly LockCommand RollbackToSavepoint = new(new LockSql("rollback to savepoint dblock_acquire"));
    private static readonly LockSql Alive = new("select cast({0} as int)" + PgSession.OwnSession);
    private static readonly LockCommand Question = new(new LockSql("select 0"));
    private static readonly LockCommand ReleaseSavepoint = new(new LockSql("release savepoint dblock_acquire"));
    private static readonly LockStatement Terminate = new(
        new LockCommand(new LockSql("select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")));

    private static readonly Texts Number = new(pair: false, shared: false);
    private static readonly Texts NumberShared = new(pair: false, shared: true);
    private static readonly Texts Pair = new(pair: true, shared: false);
    private static readonly Texts PairShared = new(pair: true, shared: true);
    private static readonly Texts Several = new(shared: false);
    private static readonly Texts SeveralShared = new(shared: true);

    public override string Name => "PostgreSQL";

    public override string SystemName => "postgresql";

    // lock_timeout is a 32-bit count of milliseconds: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override LockStatement? EndSession => Terminate;

    internal override LockCarrier Carrier { get; } = new PostgreSqlCarrier();

    internal override bool KeepsSessions => true;

    internal override LockStatement IsAlive(int sessionId) => new(new LockCommand(Alive, new LockParameter(DbType.Int32, sessionId)));

    internal override LockStatement Keep(int sessionId, (string? End, int Room) told) => PostgreSqlSettings.Keep(sessionId, told);

    internal override LockStatement TellSince(int sessionId, string end, TimeSpan held) =>
        PostgreSqlSettings.TellSince(sessionId, end, held);

    internal override LockStatement PutBack(string before) => PostgreSqlSettings.PutBack(before);

    public override bool TakesSnapshot => true;

    public override bool Speaks(string product) =>
        product.Contains("Npgsql", StringComparison.OrdinalIgnoreCase)
            || product.Contains("PostgreSql", StringComparison.OrdinalIgnoreCase);

    public override bool HasSeveral => true;

    public override bool HasFencing => true;

    public override string Identify(LockKey key) =>
        key.IsPair
            ? string.Create(CultureInfo.InvariantCulture, $"({key.Pair.First},{key.Pair.Second})")
            : key.Number.ToString(CultureInfo.InvariantCulture);

    public override LockStatement Acquire(in LockRequest request)
    {
        if (request.Scope == LockScope.Session)
        {
            CheckSession(request.SessionId);
        }

        var guard = new Guard(request);
        var texts = For(request).Acquire(guard);
        var isSession = request.Scope == LockScope.Session;
        var parameters = new List<LockParameter>(3);
        if (guard.Session)
        {
            parameters.Add(new(DbType.Int32, request.SessionId!.Value));
        }

        if (guard.HeldIn)
        {
            parameters.Add(new(DbType.Int64, request.HeldIn));
        }

        if (request.Try)
        {
            var once = Command(isSession ? texts.Try : texts.TryTransaction, request, parameters);
            return HasSavepoint(request) ? new LockStatement(Savepoint, once, ReleaseSavepoint) : new LockStatement(once);
        }

        parameters.Add(new(DbType.Int32, (int)Math.Max(0, request.Milliseconds)));
        var wait = Command(isSession ? texts.Wait : texts.WaitTransaction, request, parameters);
        return (request.Scope, request.InTransaction) switch
        {
            // The savepoint is rolled back on success too: a session lock survives that, and what the wait needed (the transaction-level
            // hold, lock_timeout) does not. Left in place, that hold would keep the lock after its release, until commit.
            (LockScope.Session, true) =>
                new LockStatement(Savepoint, wait, RollbackToSavepoint, ReleaseSavepoint) { Wait = request.Timeout },

            // Releasing a savepoint keeps the locks that were taken inside.
            (LockScope.Transaction, _) => new LockStatement(Savepoint, wait, ReleaseSavepoint) { Wait = request.Timeout },
            _ => new LockStatement(wait) { Wait = request.Timeout },
        };
    }

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome)
    {
        // Only the wait for the transaction-level lock can end in a timeout or a deadlock, and the session lock is taken after it. Several
        // keys have session locks only after the waits for all of them, or in a try; what the session holds otherwise is somebody else's.
        var isTaken = outcome is not (LockOutcome.NotAcquired or LockOutcome.Deadlock)
            && (request.Scope == LockScope.Session || (request.Key.IsSeveral && request.Try));

        // A transaction that the lock does not know has failed with the wait, and nothing but a question shows it.
        LockCommand[] undo = isTaken ? [Command(For(request).Undo, request)] : request.InTransaction || request.HasOwnConnection
            ? [] : [Question];

        // The savepoint goes last: a late cancel may hit any of these, and while it stands all of them can be said again.
        return new(HasSavepoint(request) ? [RollbackToSavepoint, .. undo, ReleaseSavepoint] : undo);
    }

    public override LockStatement IsHeld(in LockRequest request) => new(Command(For(request).IsHeld, request));

    public override LockStatement Release(in LockRequest request) =>
        new(Command(request.AfterWait ? For(request).ReleaseAfterWait : For(request).Release, request));

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
        _ => Convert.ToInt64(answer, CultureInfo.InvariantCulture) switch
        {
            1 or AfterWait => LockOutcome.Acquired,
            0 => LockOutcome.NotAcquired,
            AlreadyHeld => LockOutcome.AlreadyHeld,
            Standby => throw OnStandby(),
            FakeLocks => throw new LockException(
                "This server is CockroachDB, whose session-level advisory locks answer true and lock nothing. Lock on a PostgreSQL "
                    + "server instead."),
            Pooler => throw new LockException(
                "A connection pooler (or Npgsql's Multiplexing) stands between this program and PostgreSQL, and could give one lock to "
                    + "two clients, as it does in "
                + "transaction mode. Connect to the server directly, or use LockScope.Transaction, or set LockOptions.TrustPooler if "
                + "the pooler is in session mode."),
            Numbered => throw new LockException(
                "The connection is in a transaction that the lock does not know, whose number is older than the grant would be, so that "
                    + "it is no fencing token. Acquire before the transaction begins."),
            > AlreadyHeld or < Numbered => LockOutcome.Acquired,
        },
    };

    // In session scope a session that is not the client's is refused; in transaction scope its number is negative.
    public override bool IsDirect(in LockRequest request, object? answer) =>
        request.SessionId is not null && (
            request.Scope == LockScope.Session
                ? answer is 0 or 1 or AfterWait or 0L or > (long)AlreadyHeld : answer is > (long)AlreadyHeld);

    // A token takes the place of the code.
    internal override bool HasWaited(in LockRequest request, object? answer) =>
        request is { Scope: LockScope.Session, Try: false, InTransaction: false } && (request.Fencing || answer is AfterWait);

    public override long TokenOf(object? answer) => Convert.ToInt64(answer, CultureInfo.InvariantCulture);

    public override long TransactionOf(object? answer) => answer is long transaction ? Math.Abs(transaction) : 0;

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

    /// <summary>Refuses a session that cannot be seen, so that nobody can tell whether two statements meet the same one.</summary>
    internal static void CheckSession(int? sessionId)
    {
        if (sessionId == ILockDriver.HiddenSession)
        {
            throw new LockException(
                "The connection does not show its session on the server (a wrapper that cannot be seen through, or a provider without "
                    + "ProcessID), so that a "
                + "connection pooler between could give one lock to two clients unnoticed. Make the lock on the inner connection, or "
                + "use LockScope.Transaction, or "
                + "set LockOptions.TrustPooler if each connection is known to keep one session.");
        }
    }

    internal static LockException OnStandby() => new(
        "This server is a hot standby: its advisory locks are its own, and the primary would give the same lock to somebody else. "
        + "Connect to the primary (Npgsql: Target Session Attributes=primary).");

    private static Texts For(in LockRequest request) =>
        request.Key.IsSeveral ? (request.Shared ? SeveralShared : Several)
        : request.Key.IsPair ? (request.Shared ? PairShared : Pair) : request.Shared ? NumberShared : Number;

    // A try of several keys that fails with an error may leave some, and no error may cost the transaction's chance to let go of them.
    private static bool HasSavepoint(in LockRequest request) =>
        request.InTransaction && (!request.Try || request.Key.IsSeveral);

    private static LockCommand Command(LockSql sql, in LockRequest request, params IReadOnlyCollection<LockParameter> more)
    {
        LockParameter[] parameters = request.Key.IsSeveral
            ? [.. Arrays(request.Key), .. more]
            : request.Key.IsPair ? [new(DbType.Int32, request.Key.Pair.First), new(DbType.Int32, request.Key.Pair.Second), .. more]
            : [new(DbType.Int64, request.Key.Number), .. more];
        return new LockCommand(sql, parameters);
    }

    // As texts, which every provider can send: the numbers, each once, and whether they are pairs.
    private static LockParameter[] Arrays(LockKey key)
    {
        var numbers = key.Keys.Select(one => (one.Number, one.IsPair)).Distinct().ToList();
        return
        [
            new(DbType.String, $"{{{string.Join(",", numbers.Select(one => one.Number.ToString(CultureInfo.InvariantCulture)))}}}"),
            new(DbType.String, $"{{{string.Join(",", numbers.Select(one => one.IsPair ? "t" : "f"))}}}"),
        ];
    }

    /// <summary>The commands of one kind of lock.</summary>
    private sealed class Texts
    {
        private readonly ConcurrentDictionary<Guard, AcquireTexts> _acquire = [];
        private readonly Func<GuardTexts, AcquireTexts> _make;
        private readonly int _next;

        /// <summary>Initializes the commands of a single key.</summary>
        public Texts(bool pair, bool shared)
        {
            var key = pair ? "cast({0} as int), cast({1} as int)" : "cast({0} as bigint)";
            var suffix = shared ? "_shared" : "";
            var mode = shared ? "ShareLock" : "ExclusiveLock";
            (_make, _next) = (Make, pair ? 2 : 1);

            // A wait that fails may have been granted in that instant, and a session lock would stay. So the wait is for the
            // transaction-level lock, which goes with the failed statement; then the session lock cannot wait any more. pg_sleep(0) is
            // there for its check for interrupts: a timeout or cancel that fired during the wait ends the statement here, before the
            // session lock is taken. Without that check it would be noticed only after it. The try comes first so that a free lock never
            // has a transaction-level hold.
            AcquireTexts Make(GuardTexts guard) => new(
                Try: guard.HasNothing
                    ? new($"select pg_catalog.pg_try_advisory_lock{suffix}({key})")
                    : new($"{guard.InSession}  when pg_catalog.pg_try_advisory_lock{suffix}({key}) then {guard.Granted} else 0 end"),
                TryTransaction: new($"{guard.InTransaction}  when pg_catalog.pg_try_advisory_xact_lock{suffix}({key}) then "
                    + $"{guard.Acquired} else 0 end"),
                Wait: new($"""
                    {guard.InSession}  when pg_catalog.pg_try_advisory_lock{suffix}({key}) then {guard.Granted}
                      when pg_catalog.set_config('lock_timeout', {guard.Milliseconds}::pg_catalog.text, true) is null then null
                      when pg_catalog.pg_advisory_xact_lock{suffix}({key}) is null then null
                      when pg_catalog.pg_sleep(0) is null then null
                      when pg_catalog.pg_advisory_lock{suffix}({key}) is null then null
                      else {guard.GrantedAfterWait} end
                    """),
                WaitTransaction: new($"""
                    {guard.InTransaction}  when pg_catalog.set_config('lock_timeout', {guard.Milliseconds}::pg_catalog.text, true) is null then null
                      when pg_catalog.pg_advisory_xact_lock{suffix}({key}) is null then null
                      when pg_catalog.set_config('lock_timeout', before.lock_timeout, true) is null then null
                      else {guard.Acquired} end
                    from (select pg_catalog.current_setting('lock_timeout') as lock_timeout offset 0) as before
                    """));

            // pg_locks has one row for a session's lock, however often it was taken. Its key columns are unsigned; the shift makes the
            // number signed again.
            var number = pair ? "((cast({0} as bigint) << 32) | (cast({1} as bigint) & 4294967295))" : "cast({0} as bigint)";
            var isKey = $"""
                l.objsubid = {(pair ? "2" : "1")} and ((l.classid::bigint << 32) | l.objid::bigint) = {number}
                    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
                """;
            var held = $"""
                exists (select 1 from {Locks} as l
                  where l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = '{mode}' and {isKey})
                """;
            var unlock = $"pg_catalog.pg_advisory_unlock{suffix}({key})";
            IsHeld = new LockSql($"select case when {held} then 1 else 0 end");
            Undo = new LockSql($"select case when {held} then case when {unlock} then 1 else 0 end else 0 end");
            Release = new LockSql($"select {unlock}");
            ReleaseAfterWait = new LockSql($"select case when not {unlock} then 0 when {held} then {AfterWait} else 1 end");
            Holders = PostgreSqlHolders.Question(isKey);
        }

        /// <summary>Initializes the commands of several keys: each is one statement, and goes through them in their order.</summary>
        /// <remarks>
        /// A subquery of a CASE that depends on nothing outside of it runs when, and only if, the CASE comes to it. One that a row depends
        /// on is fenced by OFFSET 0, so that what it locks is not locked twice.
        /// </remarks>
        public Texts(bool shared)
        {
            const string Keys = "rows from (pg_catalog.unnest({0}::pg_catalog.text::bigint[]), "
                + "pg_catalog.unnest({1}::pg_catalog.text::boolean[])) with ordinality as u (k, p, n)";
            var suffix = shared ? "_shared" : "";
            var mode = shared ? "ShareLock" : "ExclusiveLock";

            // The row source stops at the first key that is held elsewhere; what was taken before it is let go by the same statement.
            var firstMissing = $"(select (select u.n from {Keys} where not {Call("pg_try_advisory_lock", suffix)} limit 1) as n offset 0) as missing";
            var unlock = Call("pg_advisory_unlock", suffix);
            var giveBack = $"(select 0 * pg_catalog.count(*)::int from {Keys} where case when u.n < missing.n then {unlock} else "
                + "false end)";

            // Each wait has what is left of the time: at least a millisecond, because 0 is for ever.
            static string Left(string milliseconds) => $"""
                case when {milliseconds} = 0 then '0' else greatest(1, {milliseconds}
                  - pg_catalog.floor(extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp()) * 1000)::bigint)::pg_catalog.text end
                """;
            string WaitForAll(string milliseconds) => $"""
                (select pg_catalog.count(*) from {Keys}
                  where case when pg_catalog.set_config('lock_timeout', {Left(milliseconds)}, true) is null then null else {IsNull("pg_advisory_xact_lock", suffix)} end) > 0
                """;

            (_make, _next) = (Make, 2);

            // Transaction-level locks cannot be given back one by one. So a try has them for the session first; then the transaction cannot
            // wait for them any more.
            AcquireTexts Make(GuardTexts guard) => new(
                Try: new($"{guard.InSession}  when true then (select case when missing.n is null then {guard.Granted} else {giveBack} "
                    + $"end from {firstMissing}) end"),
                TryTransaction: new($"""
                    {guard.InTransaction}  when true then (
                        select case
                          when missing.n is not null then {giveBack}
                          when (select pg_catalog.count(*) from {Keys} where case when {IsNull("pg_advisory_xact_lock", suffix)} then false else not {unlock} end) > 0 then null
                          else {guard.Acquired} end
                        from {firstMissing}) end
                    """),
                Wait: new($"""
                    {guard.InSession}  when (select case when missing.n is null then 1 else {giveBack} end from {firstMissing}) = 1 then {guard.Granted}
                      when {WaitForAll(guard.Milliseconds)} then null
                      when pg_catalog.pg_sleep(0) is null then null
                      when (select pg_catalog.count(*) from {Keys} where {IsNull("pg_advisory_lock", suffix)}) > 0 then null
                      else {guard.GrantedAfterWait} end
                    """),
                WaitTransaction: new($"""
                    {guard.InTransaction}  when {WaitForAll(guard.Milliseconds)} then null
                      when pg_catalog.set_config('lock_timeout', before.lock_timeout, true) is null then null
                      else {guard.Acquired} end
                    from (select pg_catalog.current_setting('lock_timeout') as lock_timeout offset 0) as before
                    """));

            const string IsKey = """
                (l.objsubid, (l.classid::bigint << 32) | l.objid::bigint) = (case when u.p then 2 else 1 end, u.k)
                    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
                """;
            var held = $"""
                select u.k, u.p from {Keys}
                  join {Locks} as l on l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = '{mode}' and {IsKey}
                """;
            IsHeld = new LockSql($"select case when (select pg_catalog.count(*) from ({held}) as h) = (select pg_catalog.count(*) from "
                + $"{Keys}) then 1 else 0 end");
            Undo = new LockSql($"select case when (select pg_catalog.count(*) from ({held} offset 0) as u where {unlock}) > 0 then 1 "
                + "else 0 end");
            var missed = $"(select pg_catalog.count(*) from {Keys} where not {unlock})";
            Release = new LockSql($"select case when {missed} = 0 then 1 else 0 end");
            ReleaseAfterWait = new LockSql($"select case when {missed} > 0 then 0 when exists ({held}) then {AfterWait} else 1 end");
            Holders = PostgreSqlHolders.Question($$"""
                (l.objsubid, (l.classid::bigint << 32) | l.objid::bigint, l.database) = (
                    select case when u.p then 2 else 1 end, u.k, d.oid
                    from {{Keys}} join pg_catalog.pg_database as d on d.datname = pg_catalog.current_database()
                    order by (case when u.p then 2 else 1 end, u.k, d.oid) in (
                        select h.objsubid, (h.classid::bigint << 32) | h.objid::bigint, h.database from pg_catalog.pg_locks as h
                        where h.locktype = 'advisory' and h.granted and h.pid is distinct from pg_catalog.pg_backend_pid()) desc, u.n
                    limit 1)
                """);

            static string Call(string function, string suffix) =>
                $"case when u.p then pg_catalog.{function}{suffix}((u.k >> 32)::int, ((u.k << 32) >> 32)::int) else "
                    + $"pg_catalog.{function}{suffix}(u.k) end";

            // What returns nothing has no place in a CASE.
            static string IsNull(string function, string suffix) =>
                $"case when u.p then pg_catalog.{function}{suffix}((u.k >> 32)::int, ((u.k << 32) >> 32)::int) is null else "
                    + $"pg_catalog.{function}{suffix}(u.k) is null end";
        }

        /// <summary>Returns the commands that acquire behind a guard.</summary>
        public AcquireTexts Acquire(Guard guard) =>
            _acquire.GetOrAdd(guard, static (guard, texts) => texts._make(new GuardTexts(texts._next, guard)), this);

        public LockSql IsHeld { get; }

        public LockSql Undo { get; }

        public LockSql Release { get; }

        /// <summary>Gets the release that tells whether the transaction keeps the lock for which a wait was.</summary>
        public LockSql ReleaseAfterWait { get; }

        public LockSql Holders { get; }
    }

    /// <summary>The commands that acquire.</summary>
    private sealed record AcquireTexts(LockSql Try, LockSql TryTransaction, LockSql Wait, LockSql WaitTransaction);

    /// <summary>What is looked at before a lock is touched, in the same round trip.</summary>
    /// <param name="Server">Whether a standby and a server without real locks are refused.</param>
    /// <param name="Session">
    /// Whether a session that is not the client's is refused in session scope, and told in transaction scope: only a hold of session scope
    /// outlives the transaction, for which a pooler keeps one server session.
    /// </param>
    /// <param name="HeldIn">Whether it may be the transaction that holds the lock already.</param>
    /// <param name="Fencing">
    /// Whether a transaction is refused that has its number already, and a grant in session scope answers with its token.
    /// </param>
    private readonly record struct Guard(bool Server, bool Session, bool HeldIn, bool Fencing)
    {
        public Guard(in LockRequest request)
            : this(!request.IsDirect, !request.IsDirect && request.SessionId is not null, request.HeldIn != 0, request.Fencing)
        {
        }
    }

    /// <summary>The texts of a guard, and the parameters after those of the key.</summary>
    /// <param name="next">The number of the first parameter after those of the key.</param>
    /// <param name="guard">The guard.</param>
    /// <remarks>
    /// In transaction scope the answer is the transaction's own number, its start in microseconds, negative in a session that is not the
    /// client's: a connection tells nobody where one transaction ends and the next begins.
    /// </remarks>
    private sealed class GuardTexts(int next, Guard guard)
    {
        private const string ThisTransaction = "(pg_catalog.date_part('epoch', pg_catalog.now()) * 1000000)::bigint";

        /// <summary>
        /// Gets whether a try has nothing to look at before, and its answer nothing to tell but yes or no: the shortest text is the fastest
        /// to parse.
        /// </summary>
        public bool HasNothing => guard == default;

        public string InSession => Case
            + (guard.Session ? string.Create(CultureInfo.InvariantCulture, $"  when {IsElsewhere} then {Pooler}\n") : "")
            + (guard.Fencing ? string.Create(CultureInfo.InvariantCulture, $"  when pg_catalog.pg_current_xact_id_if_assigned() is not "
            + $"null then {Numbered}\n") : "");

        public string Granted => guard.Fencing ? Token : "1";

        public string GrantedAfterWait => guard.Fencing ? Token : AfterWait.ToString(CultureInfo.InvariantCulture);

        public string InTransaction => guard.HeldIn
            ? string.Create(CultureInfo.InvariantCulture, $"{Case}  when {Parameter(guard.Session ? 1 : 0, "bigint")} = {ThisTransaction} then {AlreadyHeld}\n")
            : Case;

        public string Acquired => guard.Session
            ? $"case when {IsElsewhere} then -{ThisTransaction} else {ThisTransaction} end" : ThisTransaction;

        public string Milliseconds => Parameter((guard.Session ? 1 : 0) + (guard.HeldIn ? 1 : 0), "int");

        private string Case => guard.Server ? $"select case\n{Untrusted}" : "select case\n";

        private string IsElsewhere => $"{Parameter(0, "int")} <> pg_catalog.pg_backend_pid()";

        private string Parameter(int index, string type) =>
            string.Create(CultureInfo.InvariantCulture, $"cast({{{next + index}}} as {type})");
    }
}
