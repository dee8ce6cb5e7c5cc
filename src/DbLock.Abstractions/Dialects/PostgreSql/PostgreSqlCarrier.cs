using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>A session of PostgreSQL that carries the locks of a pool.</summary>
internal sealed class PostgreSqlCarrier : LockCarrier
{
    public const string Channel = "dblock_pool";

    private static readonly string Claim = string.Create(
        CultureInfo.InvariantCulture,
        $"(u.k # (case when u.s & 2 = 2 then {CarriedLock.ClaimOnPair} else {CarriedLock.ClaimOnNumber} end"
        + $" | (c.level::bigint << {CarriedLock.LevelBit})))");

    private static readonly string Marker = Listening.Number.ToString(CultureInfo.InvariantCulture);

    // The room is what the lock table has at least, less what is in it: https://www.postgresql.org/docs/current/runtime-config-locks.html.
    // A quarter of the table is left to others.
    private static readonly LockSql LookSql = new(string.Create(CultureInfo.InvariantCulture, $"""
        select case
        {PostgreSqlTrust.Untrusted}  when cast({"{0}"} as int) not in (0, pg_catalog.pg_backend_pid()) then {PostgreSqlAnswer.Pooler}
          else (select greatest(0, 3 * pg_catalog.current_setting('max_locks_per_transaction')::bigint
            * (pg_catalog.current_setting('max_connections')::bigint + pg_catalog.current_setting('max_prepared_transactions')::bigint) / 4
            - pg_catalog.count(*))
            from {PostgreSqlTrust.Locks}) end
        """));

    private const string TokenOfGrant =
        $"case when pg_catalog.strpos(d.acquired, '1') > 0 then ({PostgreSqlTrust.Token})::pg_catalog.text else '' end";

    // A claim is a shared lock. There is one of another session if it cannot be locked exclusively. CarriedLock.Claim makes the number of a
    // claim.
    private static readonly string Take = string.Create(CultureInfo.InvariantCulture, $$"""
        case when u.s >= 4 and exists (
            select from pg_catalog.generate_series(u.s >> 2, {{CarriedLock.HighestClaim}}) as c (level)
            where not case when pg_catalog.pg_try_advisory_lock({{Claim}}) then pg_catalog.pg_advisory_unlock({{Claim}}) else false end)
            then false
          else {{Call("pg_try_advisory_lock")}} end
        """);

    private static readonly string Singly = $$"""
        select pg_catalog.string_agg(case when {{Take}} then '1' else '0' end, '' order by u.n) from {{Rows("{2}", "{3}")}} as u (k, s, n)
        """;

    // If not all locks of a group can be had, those that were taken are let go at once.
    private static readonly string InGroups = $$"""
        select pg_catalog.string_agg(
          case when u.whole then '1' when not u.taken then '0' when {{Call("pg_advisory_unlock")}} then '2' else '2' end, '' order by u.n)
        from (select t.*, pg_catalog.bool_and(t.taken) over (partition by t.g) as whole
          from (select u.*, {{Take}} as taken from {{Rows("{2}", "{3}", "{6}")}} as u (k, s, g, n) offset 0) as t offset 0) as u
        """;

    // Most rounds take one lock, or let go of one. These texts are for them: one for each kind, in the numbering of the arrays.
    private static readonly LockSql[] TakeOne = [.. Enumerable.Range(0, 4).Select(kind =>
        new LockSql($"select case when {One("pg_try_advisory_lock", kind)} then '|{NotLooked}|1||' else '|{NotLooked}|0||' end"))];

    private static readonly LockSql[] LetGoOfOne = [.. Enumerable.Range(0, 4).Select(kind =>
        new LockSql($"select case when {One("pg_advisory_unlock", kind)} then '1|' else '0|' end || ({RingOf(kind)}) || '|||'"))];

    private static readonly LockSql CarrySingly = Carrying(Singly, fencing: false);
    private static readonly LockSql CarryInGroups = Carrying(InGroups, fencing: false);
    private static readonly LockSql CarrySinglyFenced = Carrying(Singly, fencing: true);
    private static readonly LockSql CarryInGroupsFenced = Carrying(InGroups, fencing: true);

    // Of the kind, the two low bits say what the lock is. The others say which claims were heeded, which does not matter here.
    private static readonly LockSql AreHeldSql = new($$"""
        select pg_catalog.string_agg(case when h.k is null then '0' else '1' end, '' order by u.n)
        from {{Rows("{0}", "{1}")}} as u (k, s, n)
        left join (
          select distinct (l.classid::bigint << 32) | l.objid::bigint as k,
            (l.objsubid - 1) * 2 + case l.mode when 'ShareLock' then 1 else 0 end as s
          from {{PostgreSqlTrust.Locks}} as l
          where l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted) as h on h.k = u.k and h.s = u.s & 3
        """);

    private static readonly LockSql ListenSql = new($"listen {Channel}");

    private static readonly LockSql EndSql = new("select case when pg_catalog.pg_advisory_unlock_all() is null then 0 else 1 end");

    private static readonly LockSql UnlistenSql = new($"unlisten {Channel}");

    public override LockStatement Listen { get; } = new(new LockCommand(ListenSql));

    public override LockStatement ReleaseAll { get; } = new(new LockCommand(UnlistenSql), new LockCommand(EndSql));

    public override LockStatement Look(int? sessionId)
    {
        PostgreSqlTrust.CheckSession(sessionId);
        return new(new LockCommand(LookSql, new LockParameter(DbType.Int32, sessionId ?? 0)));
    }

    public override long ReadRoom(object? answer)
    {
        if (answer is null or DBNull)
        {
            throw NotAnswered();
        }

        var room = Convert.ToInt64(answer, CultureInfo.InvariantCulture);
        return PostgreSqlTrust.Refusal(room) is { } refusal ? throw refusal : room;
    }

    public override LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts)
    {
        if (!fencing && !counts)
        {
            switch (releases, acquires)
            {
                case ([], [{ Heeds: 0 } one]):
                    return Plain(new(TakeOne[Kind(one)], new LockParameter(DbType.Int64, one.Number)));
                case ([var one], []):
                    return Plain(new(LetGoOfOne[Kind(one)], new(DbType.Int64, one.Number), new(DbType.String, bell)));
            }
        }

        // As the carrier sends it on most connections, which spares the copy.
        static LockStatement Plain(LockCommand command) => new(command) { MayPrepare = true, Limit = TrustWindow.Length };

        LockParameter[] parameters =
        [
            Numbers(releases), Kinds(releases), Numbers(acquires), Kinds(acquires),
            new(DbType.String, BellText(bell, releases)), new(DbType.Int32, counts ? 1 : 0),
        ];
        var inGroups = false;
        for (var i = 1; i < acquires.Count && !inGroups; i++)
        {
            inGroups = acquires[i].Group == acquires[i - 1].Group;
        }

        return new(inGroups
            ? new LockCommand(
                fencing ? CarryInGroupsFenced : CarryInGroups, [.. parameters, new(DbType.String, Array(acquires, one => one.Group))])
            : new LockCommand(fencing ? CarrySinglyFenced : CarrySingly, parameters));
    }

    public override LockStatement Holders(IReadOnlyCollection<LockKey> keys) => new(new LockCommand(
        PostgreSqlHolders.QuestionOfMany,
        new(DbType.String, Array(keys, key => key.Number)),
        new LockParameter(DbType.String, $"{{{string.Join(",", keys.Select(key => key.IsPair ? "t" : "f"))}}}")));

    public override IReadOnlyDictionary<LockKey, LockHolders> ReadHolders(IReadOnlyCollection<LockKey> keys, object? answer) =>
        PostgreSqlHolders.ReadMany(keys, answer);

    public override LockStatement AreHeld(IReadOnlyList<CarriedLock> locks) =>
        new(new LockCommand(AreHeldSql, Numbers(locks), Kinds(locks)));

    // https://www.postgresql.org/docs/current/errcodes-appendix.html: out_of_memory
    public override bool IsFull(DbError codes) => codes.SqlState == "53200";

    // PostgreSQL evaluates a subquery with OFFSET 0 before what is selected from it, and the parts of a CASE in their order: so this
    // unlocks first, then notifies, then locks, and counts last. Each key is given as its number, its kind and its place in the list. The
    // kind is 0 for a number, 1 for a shared number, 2 for a pair and 3 for a shared pair, plus four times the level of the claims that the
    // key heeds.
    private static LockSql Carrying(string acquire, bool fencing) => new($$"""
        select d.released || '|' || d.rang || '|' || d.acquired || '|' || {{(fencing ? TokenOfGrant : "''")}} || '|'
          || case when cast({5} as int) = 1 then (
              select pg_catalog.count(*) from {{PostgreSqlTrust.Locks}} as l
              where l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid() and l.granted)::pg_catalog.text else '' end
        from (
          select done.released, done.rang, case when done.rang is not null then coalesce(({{acquire}}), '') end as acquired
          from (
            select r.released, case when r.released is null then null else {{Ring("{4}")}} end as rang
            from (
              select coalesce((
                select pg_catalog.string_agg(case when {{Call("pg_advisory_unlock")}} then '1' else '0' end, '' order by u.n)
                from {{Rows("{0}", "{1}")}} as u (k, s, n)), '') as released
              offset 0) as r
            offset 0) as done
          offset 0) as d
        """);

    // The server writes BellText for one key, which spares the client a string for each release.
    private static string RingOf(int kind) => Ring("{1}", $" || ' {(kind < 2 ? "" : "p")}' || cast({{0}} as bigint)");

    // If the lock of the listeners can be had exclusively, no other pool listens, and no notification is sent.
    private static string Ring(string bell, string keys = "") => $"""
        case when pg_catalog.pg_try_advisory_lock({Marker}) then case when pg_catalog.pg_advisory_unlock({Marker}) then '' end
          when cast({bell} as pg_catalog.text) = '' then '1'
          when pg_catalog.pg_notify('{Channel}', cast({bell} as pg_catalog.text){keys}) is null then null
          else '1' end
        """;

    private static string One(string function, int kind)
    {
        const string Number = "cast({0} as bigint)";
        var key = kind < 2 ? Number : $"({Number} >> 32)::int, (({Number} << 32) >> 32)::int";
        return $"pg_catalog.{function}{(kind % 2 == 1 ? "_shared" : "")}({key})";
    }

    private static string Rows(string numbers, params string[] kinds)
    {
        var more = kinds.Select(kind => $", pg_catalog.unnest({kind}::pg_catalog.text::int[])");
        return $"rows from (pg_catalog.unnest({numbers}::pg_catalog.text::bigint[]){string.Concat(more)}) with ordinality";
    }

    private static string Call(string function) => $"""
        case u.s & 3 when 0 then pg_catalog.{function}(u.k) when 1 then pg_catalog.{function}_shared(u.k)
          when 2 then pg_catalog.{function}((u.k >> 32)::int, ((u.k << 32) >> 32)::int)
          else pg_catalog.{function}_shared((u.k >> 32)::int, ((u.k << 32) >> 32)::int) end
        """;

    private static LockParameter Numbers(IReadOnlyList<CarriedLock> locks) => new(DbType.String, Array(locks, one => one.Number));

    private static LockParameter Kinds(IReadOnlyList<CarriedLock> locks) =>
        new(DbType.String, Array(locks, one => Kind(one) + (4 * one.Heeds)));

    private static int Kind(CarriedLock one) => (one.IsPair ? 2 : 0) + (one.Shared ? 1 : 0);

    private static string Array<T>(IEnumerable<T> locks, Func<T, long> value) =>
        $"{{{string.Join(",", locks.Select(one => value(one).ToString(CultureInfo.InvariantCulture)))}}}";
}
