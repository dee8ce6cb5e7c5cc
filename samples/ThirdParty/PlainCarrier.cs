using System.Data;
using System.Globalization;
using DbLock;
using DbLock.Drivers;

namespace ThirdParty;

/// <summary>
/// How one session of PostgreSQL carries the locks of a pool: what is let go, what is told to others, and what is taken go in one statement. It does not heed the claims of
/// others (<see cref="CarriedLock.Heeds"/>), so that turns are by luck, and has no fencing tokens.
/// </summary>
public sealed class PlainCarrier : LockCarrier
{
    // The rows of a subquery with OFFSET 0 come before what is selected from it: unlock, ring, lock.
    private static readonly LockSql CarrySql = new($$"""
        select d.released || '|' || d.rang || '|' || coalesce(d.acquired, '') || '||' || case when cast({6} as int) = 1 then (
          select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted)::text else '' end
        from (
          select done.*, case when done.rang is not null then (
            select string_agg(case when u.whole then '1' when not u.taken then '0' when {{Call("pg_advisory_unlock")}} then '2' else '2' end, '' order by u.n)
            from (select t.*, bool_and(t.taken) over (partition by t.g) as whole
              from (select u.*, {{Call("pg_try_advisory_lock")}} as taken from {{Rows("{2}", "{3}", "{4}")}} as u (k, s, g, n) offset 0) as t offset 0) as u) end as acquired
          from (
            select r.released, case when r.released is null then null when pg_try_advisory_lock({{Marker}}) then case when pg_advisory_unlock({{Marker}}) then '' end
              when cast({5} as text) = '' then '1' when pg_notify('thirdparty_pool', cast({5} as text)) is null then null else '1' end as rang
            from (select coalesce((
              select string_agg(case when {{Call("pg_advisory_unlock")}} then '1' else '0' end, '' order by u.n) from {{Rows("{0}", "{1}")}} as u (k, s, n)), '') as released
              offset 0) as r
            offset 0) as done
          offset 0) as d
        """);

    private static readonly LockSql AreHeldSql = new($$"""
        select string_agg(case when exists (
          select from pg_locks as l where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.granted
            and (l.classid::bigint << 32) | l.objid::bigint = u.k and (l.objsubid - 1) * 2 + case l.mode when 'ShareLock' then 1 else 0 end = u.s)
          then '1' else '0' end, '' order by u.n)
        from {{Rows("{0}", "{1}")}} as u (k, s, n)
        """);

    private static readonly LockStatement Room = new(new LockCommand(new LockSql("select 1000 as room")));

    // Who can take this key alone knows that nobody listens.
    private static string Marker => Listening.Number.ToString(CultureInfo.InvariantCulture);

    public override LockStatement Listen { get; } = new(new LockCommand(new LockSql("listen thirdparty_pool")));

    public override LockStatement ReleaseAll { get; } = new(
        new LockCommand(new LockSql("unlisten thirdparty_pool")),
        new LockCommand(new LockSql("select case when pg_advisory_unlock_all() is null then 0 else 1 end")));

    public override LockStatement Look(int? sessionId) => Room;

    public override long ReadRoom(object? answer) => answer is int room ? room : throw NotAnswered();

    public override LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts) => fencing
        ? throw new NotSupportedException("This carrier has no fencing tokens.")
        : new(new LockCommand(
            CarrySql,
            Numbers(releases), Kinds(releases), Numbers(acquires), Kinds(acquires), Array(acquires, one => one.Group),
            new(DbType.String, BellText(bell, releases)), new(DbType.Int32, counts ? 1 : 0)));

    public override LockStatement AreHeld(IReadOnlyList<CarriedLock> locks) => new(new LockCommand(AreHeldSql, Numbers(locks), Kinds(locks)));

    // A key has a number, and a kind: 0 a number, 1 a shared one, 2 a pair, 3 a shared one.
    private static string Call(string function) => $"""
        case u.s when 0 then {function}(u.k) when 1 then {function}_shared(u.k)
          when 2 then {function}((u.k >> 32)::int, ((u.k << 32) >> 32)::int) else {function}_shared((u.k >> 32)::int, ((u.k << 32) >> 32)::int) end
        """;

    private static string Rows(string numbers, params string[] kinds) =>
        $"rows from (unnest({numbers}::text::bigint[]){string.Concat(kinds.Select(kind => $", unnest({kind}::text::int[])"))}) with ordinality";

    private static LockParameter Numbers(IReadOnlyList<CarriedLock> locks) => Array(locks, one => one.Number);

    private static LockParameter Kinds(IReadOnlyList<CarriedLock> locks) => Array(locks, one => (one.IsPair ? 2 : 0) + (one.Shared ? 1 : 0));

    private static LockParameter Array(IReadOnlyList<CarriedLock> locks, Func<CarriedLock, long> value) =>
        new(DbType.String, $"{{{string.Join(",", locks.Select(one => value(one).ToString(CultureInfo.InvariantCulture)))}}}");
}
