using System.Collections.Concurrent;
using System.Globalization;

namespace DbLock;

/// <summary>The commands of one kind of lock.</summary>
internal sealed class PostgreSqlTexts
{
    private readonly ConcurrentDictionary<PostgreSqlGuard, AcquireTexts> _acquire = [];
    private readonly Func<PostgreSqlGuardTexts, AcquireTexts> _make;
    private readonly int _next;

    /// <summary>Initializes the commands of a single key.</summary>
    public PostgreSqlTexts(bool pair, bool shared)
    {
        var key = pair ? "cast({0} as int), cast({1} as int)" : "cast({0} as bigint)";
        var suffix = shared ? "_shared" : "";
        var mode = shared ? "ShareLock" : "ExclusiveLock";
        (_make, _next) = (Make, pair ? 2 : 1);

        // A wait that fails may have been granted in the same instant, and a session lock would then stay. So the statement waits for the
        // transaction-level lock, which ends with the failed statement; after that the session lock is free for it. pg_sleep(0) checks for
        // interrupts: a timeout or cancel that fired during the wait ends the statement there, and not after the session lock was taken.
        // The try comes first, so that a free lock never has a transaction-level lock.
        AcquireTexts Make(PostgreSqlGuardTexts guard) => new(
            Try: guard.HasNothing
                ? new($"select pg_catalog.pg_try_advisory_lock{suffix}({key})")
                : new($"{guard.InSession}  when pg_catalog.pg_try_advisory_lock{suffix}({key}) then {guard.Granted} else 0 end"),
            TryTransaction: new(
                $"{guard.InTransaction}  when pg_catalog.pg_try_advisory_xact_lock{suffix}({key}) then {guard.Acquired} else 0 end"),
            Wait: new($"""
                {guard.InSession}  when pg_catalog.pg_try_advisory_lock{suffix}({key}) then {guard.Granted}
                  when pg_catalog.set_config('lock_timeout', {guard.Milliseconds}::pg_catalog.text, true) is null then null
                  when pg_catalog.pg_advisory_xact_lock{suffix}({key}) is null then null
                  when pg_catalog.pg_sleep(0) is null then null
                  when pg_catalog.pg_advisory_lock{suffix}({key}) is null then null
                  else {guard.GrantedAfterWait} end
                """),
            WaitTransaction: new($"""
                {guard.InTransaction}
                  when pg_catalog.set_config('lock_timeout', {guard.Milliseconds}::pg_catalog.text, true) is null then null
                  when pg_catalog.pg_advisory_xact_lock{suffix}({key}) is null then null
                  when pg_catalog.set_config('lock_timeout', before.lock_timeout, true) is null then null
                  else {guard.Acquired} end
                from (select pg_catalog.current_setting('lock_timeout') as lock_timeout offset 0) as before
                """));

        // pg_locks has one row for a session's lock, however often it was taken. Its key columns are unsigned, and the shift makes the
        // number signed again.
        var number = pair ? "((cast({0} as bigint) << 32) | (cast({1} as bigint) & 4294967295))" : "cast({0} as bigint)";
        var isKey = $"""
            l.objsubid = {(pair ? "2" : "1")} and ((l.classid::bigint << 32) | l.objid::bigint) = {number}
                and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
            """;
        var held = $"""
            exists (select 1 from {PostgreSqlTrust.Locks} as l
              where l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = '{mode}' and {isKey})
            """;
        var unlock = $"pg_catalog.pg_advisory_unlock{suffix}({key})";
        IsHeld = new LockSql($"select case when {held} then 1 else 0 end");
        Undo = new LockSql($"select case when {held} then case when {unlock} then 1 else 0 end else 0 end");
        Release = new LockSql($"select {unlock}");
        ReleaseAfterWait = new LockSql($"select case when not {unlock} then 0 when {held} then {PostgreSqlAnswer.AfterWait} else 1 end");
        Holders = PostgreSqlHolders.Question(isKey);
    }

    /// <summary>Initializes the commands for several keys. Each is one statement that goes through the keys in their order.</summary>
    /// <remarks>
    /// PostgreSQL evaluates a subquery inside a CASE that depends on nothing outside of it when the CASE comes to it, and only then. A
    /// subquery that depends on a row is kept apart by OFFSET 0, so that it does not lock twice.
    /// </remarks>
    public PostgreSqlTexts(bool shared)
    {
        const string Keys = "rows from (pg_catalog.unnest({0}::pg_catalog.text::bigint[]), "
            + "pg_catalog.unnest({1}::pg_catalog.text::boolean[])) with ordinality as u (k, p, n)";
        var suffix = shared ? "_shared" : "";
        var mode = shared ? "ShareLock" : "ExclusiveLock";

        // The rows end at the first key that is held elsewhere. The same statement lets go of those that were taken before it.
        var firstMissing =
            $"(select (select u.n from {Keys} where not {Call("pg_try_advisory_lock", suffix)} limit 1) as n offset 0) as missing";
        var unlock = Call("pg_advisory_unlock", suffix);
        var giveBack = $"(select 0 * pg_catalog.count(*)::int from {Keys} where case when u.n < missing.n then {unlock} else false end)";

        // Each wait has what is left of the time, and at least a millisecond, because 0 would wait for ever.
        static string Left(string milliseconds) => $"""
            case when {milliseconds} = 0 then '0' else greatest(1, {milliseconds}
              - pg_catalog.floor(extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp()) * 1000)::bigint
            )::pg_catalog.text end
            """;
        string WaitForAll(string milliseconds) => $"""
            (select pg_catalog.count(*) from {Keys}
              where case when pg_catalog.set_config('lock_timeout', {Left(milliseconds)}, true) is null then null
                else {IsNull("pg_advisory_xact_lock", suffix)} end) > 0
            """;

        (_make, _next) = (Make, 2);

        // Transaction-level locks cannot be given back one by one. So a try takes session locks first; when it has all of them, the
        // transaction-level locks are granted without a wait.
        AcquireTexts Make(PostgreSqlGuardTexts guard) => new(
            Try: new(
                $"{guard.InSession}  when true then (select case when missing.n is null then {guard.Granted} else {giveBack} end "
                + $"from {firstMissing}) end"),
            TryTransaction: new($"""
                {guard.InTransaction}  when true then (
                    select case
                      when missing.n is not null then {giveBack}
                      when (select pg_catalog.count(*) from {Keys}
                        where case when {IsNull("pg_advisory_xact_lock", suffix)} then false else not {unlock} end) > 0 then null
                      else {guard.Acquired} end
                    from {firstMissing}) end
                """),
            Wait: new($"""
                {guard.InSession}
                  when (select case when missing.n is null then 1 else {giveBack} end from {firstMissing}) = 1 then {guard.Granted}
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
                """))
        {
            TryAny = new($"{guard.InSession}  when true then {Any("pg_try_advisory_lock", guard.Granted)} end"),
            TryAnyTransaction = new($"{guard.InTransaction}  when true then {Any("pg_try_advisory_xact_lock", guard.Acquired)} end"),
        };

        // The rows end at the first key that is free. A grant answers with its place among the keys as well.
        string Any(string function, string granted) => $"""
            (select case when taken.n is null then 0 else ({granted})::bigint * 1024 + taken.n end
                from (select (select u.n from {Keys} where {Call(function, suffix)} limit 1) as n offset 0) as taken)
            """;

        const string IsKey = """
            (l.objsubid, (l.classid::bigint << 32) | l.objid::bigint) = (case when u.p then 2 else 1 end, u.k)
                and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
            """;
        var held = $"""
            select u.k, u.p from {Keys}
              join {PostgreSqlTrust.Locks} as l
                on l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = '{mode}' and {IsKey}
            """;
        IsHeld = new LockSql(
            $"select case when (select pg_catalog.count(*) from ({held}) as h) = (select pg_catalog.count(*) from {Keys}) "
            + "then 1 else 0 end");
        Undo = new LockSql(
            $"select case when (select pg_catalog.count(*) from ({held} offset 0) as u where {unlock}) > 0 then 1 else 0 end");
        var missed = $"(select pg_catalog.count(*) from {Keys} where not {unlock})";
        Release = new LockSql($"select case when {missed} = 0 then 1 else 0 end");
        ReleaseAfterWait = new LockSql(
            $"select case when {missed} > 0 then 0 when exists ({held}) then {PostgreSqlAnswer.AfterWait} else 1 end");
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

        // A CASE needs a value, and a function that returns void has none.
        static string IsNull(string function, string suffix) =>
            $"case when u.p then pg_catalog.{function}{suffix}((u.k >> 32)::int, ((u.k << 32) >> 32)::int) is null else "
            + $"pg_catalog.{function}{suffix}(u.k) is null end";
    }

    /// <summary>Returns the commands that acquire behind a guard.</summary>
    public AcquireTexts Acquire(PostgreSqlGuard guard) =>
        _acquire.GetOrAdd(guard, static (guard, texts) => texts._make(new PostgreSqlGuardTexts(texts._next, guard)), this);

    public LockSql IsHeld { get; }

    public LockSql Undo { get; }

    public LockSql Release { get; }

    /// <summary>Gets the release that also tells whether a transaction keeps the transaction-level lock of the wait.</summary>
    public LockSql ReleaseAfterWait { get; }

    public LockSql Holders { get; }

    /// <summary>The commands that acquire.</summary>
    public sealed record AcquireTexts(LockSql Try, LockSql TryTransaction, LockSql Wait, LockSql WaitTransaction)
    {
        /// <summary>Gets the try of several keys of which one is enough; null for the commands of a single key.</summary>
        public LockSql? TryAny { get; init; }

        /// <summary>Gets the same in transaction scope.</summary>
        public LockSql? TryAnyTransaction { get; init; }
    }
}
