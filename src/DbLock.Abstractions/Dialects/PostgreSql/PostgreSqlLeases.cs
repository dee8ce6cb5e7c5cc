namespace DbLock;

/// <summary>Leases in a table of PostgreSQL.</summary>
/// <remarks>
/// <c>clock_timestamp()</c> is evaluated anew after a wait for a row, as <c>now()</c> is not. A grant is answered when it is on disk, and
/// on the synchronous standby, whatever the session's own <c>synchronous_commit</c> is: the statement turns that on for its own
/// transaction.
/// </remarks>
internal sealed class PostgreSqlLeases : LeaseDialect
{
    private const string Now = "pg_catalog.clock_timestamp()";
    private const string Clock = $"(extract(epoch from {Now}) * 1000000)::pg_catalog.int8";

    // The condition on the slot is true of every row. The planner, which knows nothing of JSON and takes it for a hundred rows, takes what
    // fulfils it for one row, and looks that up by its key instead of reading the whole table.
    private const string Asked = """
        asked as materialized (
          select a.k, a.s, a.o, a.d * interval '1 microsecond' as d, a.a * interval '1 microsecond' as a, a.t, a.h, a.n
          from pg_catalog.json_to_recordset({0}::pg_catalog.text::pg_catalog.json)
            as a (k text, s int, o text, d bigint, a bigint, t bigint, h text, n text)
          where a.s = a.s + 0 order by a.k collate "C", a.s),
        durable as materialized (
          select case when pg_catalog.current_setting('synchronous_commit') in ('off', 'local')
            then pg_catalog.set_config('synchronous_commit', 'on', true) end as setting)
        """;

    private const string Answer = $"""
        {Clock} || coalesce(pg_catalog.string_agg(',' || g.owner || ' ' || g.slot || ' ' || g.token, ''), '')
          || ',+ 0 ' || pg_catalog.pg_backend_pid()
        """;

    private const string Granted = $"select {Answer} from granted as g";

    protected override LeaseTexts Write(LeaseTable table)
    {
        var name = table.Quoted('"', '"');
        var onConflict = $"""
            on conflict (key, slot) do update set owner = excluded.owner, token = greatest(l.token + 1, excluded.token), taken = {Now},
              expires = {Now} + (excluded.expires - excluded.taken), holder = excluded.holder, note = excluded.note
            where l.expires <= {Now} or l.owner = excluded.owner
            returning l.slot, l.owner, l.token
            """;
        var free = $"not exists (select from {name} as b where b.key = q.k and b.slot = q.s and b.expires > {Now} and b.owner <> q.o)";

        // Another's transaction may have one of the rows, for which the others are not kept waiting.
        var patience = "patience as materialized (select pg_catalog.set_config('lock_timeout', '100ms', true))";
        string Mine(string until, string more = "") => $"""
            mine as materialized (
              select l.key, l.slot, l.owner, q.d, q.a from {name} as l join asked as q on l.key = q.k and l.slot = q.s and l.owner = q.o
              cross join durable{more} where {until} order by l.key, l.slot for update of l)
            """;
        return new()
        {
            Create = $"""
                create table if not exists {name} (
                  key text collate "C" not null, slot int not null default 0, owner text not null, token bigint not null,
                  taken timestamptz not null, expires timestamptz not null, holder text not null, note text not null default '',
                  primary key (key, slot))
                """,
            Acquire =
            [
                new($"""
                    with {Asked}, granted as (
                      insert into {name} as l (key, slot, owner, token, taken, expires, holder, note)
                      select q.k, q.s, q.o, greatest(q.t, {Clock}), q.now, q.now + greatest(q.d, q.a), q.h, q.n
                      from (select a.*, {Now} as now from asked as a cross join durable offset 0) as q
                      where {free}
                      order by q.k collate "C", q.s
                      {onConflict})
                    {Granted}
                    """),
            ],

            // The clock is read once, when the rows are locked, because all of them get one token. The division by zero, which rolls
            // everything back, is met when another inserted one of them at the same time.
            AcquireAll =
            [
                new($"""
                    with {Asked}, looked as materialized (
                      select pg_catalog.count(*) as busy from asked as q where not {free}),
                    locked as materialized (
                      select l.owner, l.token, l.expires from {name} as l join asked as q on l.key = q.k and l.slot = q.s
                      where (select w.busy from looked as w) = 0 order by l.key, l.slot for update of l),
                    state as materialized (
                      select pg_catalog.count(*) filter (where l.expires > {Now} and l.owner <> (select q.o from asked as q limit 1))
                        + (select w.busy from looked as w) as busy, coalesce(pg_catalog.max(l.token), 0) + 1 as token,
                        {Now} as now, {Clock} as us from locked as l),
                    granted as (
                      insert into {name} as l (key, slot, owner, token, taken, expires, holder, note)
                      select q.k, q.s, q.o, q.token, q.now, q.now + greatest(q.d, q.a), q.h, q.n
                      from (select a.*, s.now, greatest(a.t, s.us, s.token) as token from asked as a cross join state as s
                        cross join durable where s.busy = 0 offset 0) as q
                      order by q.k collate "C", q.s
                      {onConflict})
                    select case when a.count in (0, (select pg_catalog.count(*) from asked)) then a.text
                      else (1 / (a.count - a.count))::pg_catalog.text end
                    from (select pg_catalog.count(*) as count, {Answer} as text from granted as g) as a
                    """),
            ],
            Renew =
            [
                new($"""
                    with {Asked}, {patience}, {Mine($"l.expires > {Now}", " cross join patience")}, granted as (
                      update {name} as l set expires = greatest({Now} + m.d, l.taken + m.a) from mine as m
                      where l.key = m.key and l.slot = m.slot and l.owner = m.owner returning l.slot, l.owner, l.token)
                    {Granted}
                    """),
            ],
            Release =
            [
                new($"""
                    with {Asked}, {Mine("true")}, granted as (
                      update {name} as l set owner = '', expires = greatest({Now}, l.taken + m.a) from mine as m
                      where l.key = m.key and l.slot = m.slot and l.owner = m.owner returning l.slot, m.owner, l.token)
                    {Granted}
                    """),
            ],
            Look =
            [
                new($"""
                    select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('k', l.key, 's', l.slot, 'o', l.owner, 't', l.token,
                      'h', l.holder, 'n', l.note, 'b', {Microseconds("l.taken")}, 'e', {Microseconds("l.expires")}, 'c', {Clock})
                      order by l.key, l.slot), '[]')::pg_catalog.text
                    from {name} as l where l.expires > {Now} and (
                      {"{0}"}::pg_catalog.text = '[]' or l.key in (
                        select a.k from pg_catalog.json_to_recordset({"{0}"}::pg_catalog.text::pg_catalog.json) as a (k text)))
                    """),
            ],

            // Who else takes a slot at this moment has its row, which is passed over. Its own row is first, after an answer that was lost.
            AcquireSlot =
            [
                new($"""
                    with {Asked}, free as materialized (
                      select l.key, l.slot, q.o, q.d, q.a, q.t, q.h, q.n
                      from {name} as l join asked as q on l.key = q.k and l.slot between 1 and q.s cross join durable
                      where l.expires <= {Now} or l.owner = q.o order by l.owner = q.o desc, l.slot limit 1
                      for update of l skip locked),
                    granted as (
                      update {name} as l set owner = f.o, token = greatest(l.token + 1, f.t, {Clock}), taken = {Now},
                        expires = {Now} + greatest(f.d, f.a), holder = f.h, note = f.n
                      from free as f where l.key = f.key and l.slot = f.slot returning l.slot, l.owner, l.token)
                    select {Answer} || (
                      select ',- 0 ' || pg_catalog.count(*) from {name} as l join asked as q on l.key = q.k and l.slot between 1 and q.s)
                    from granted as g
                    """),
            ],
            MakeSlots =
            [
                new($"""
                    with {Asked}, made as (
                      insert into {name} as l (key, slot, owner, token, taken, expires, holder)
                      select q.k, q.s, '', 0, {Now}, {Now}, '' from asked as q
                      where not exists (select from {name} as b where b.key = q.k and b.slot = q.s) order by q.k collate "C", q.s
                      on conflict do nothing returning l.slot)
                    select {Clock} || ',- 0 ' || pg_catalog.count(*) from made
                    """),
            ],

            // A transaction that has written has a number, and a question by itself has none.
            Committed =
            [
                new($"""
                    select case when pg_catalog.pg_current_xact_id_if_assigned() is not null then '{LeaseReply.Uncommitted}' else '' end
                    """),
            ],
            Clear =
            [
                new($"""
                    with old as (
                      delete from {name} as l where l.expires < {Now} - interval '1 day' and l.token < {Clock} returning 1)
                    select pg_catalog.count(*)::pg_catalog.text from old
                    """),
            ],
        };
    }

    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    public override LeaseTrouble Read(DbError codes) => codes.SqlState switch
    {
        "22012" or "55P03" => LeaseTrouble.NotNow, // division_by_zero, lock_not_available
        "40001" or "40P01" => LeaseTrouble.Again, // serialization_failure, deadlock_detected
        "42P01" or "42703" or "42P10" or "3F000" => LeaseTrouble.NoTable, // undefined table, column, unique index, schema
        "42501" => LeaseTrouble.NoRight,
        "25006" => LeaseTrouble.NoWrites, // read_only_sql_transaction

        // The connection is gone, the statement was cancelled, the server ends or has no room.
        null or ['0', '8', ..] or ['5', '7', ..] or ['5', '3', ..] or ['X', 'X', ..] or "HY000" or "HYT00" => LeaseTrouble.Unknown,
        _ => LeaseTrouble.Refused,
    };

    private static string Microseconds(string time) => $"(extract(epoch from {time}) * 1000000)::pg_catalog.int8";
}
