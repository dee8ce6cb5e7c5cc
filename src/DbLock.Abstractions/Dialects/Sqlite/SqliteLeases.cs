namespace DbLock;

/// <summary>Leases in a table of an SQLite file (3.33 and later).</summary>
/// <remarks>
/// <c>'now'</c> is one time in a statement. An insert or update has the file's write lock from its beginning, so that nothing changes
/// between what it reads and what it writes.
/// </remarks>
internal sealed class SqliteLeases : LeaseDialect
{
    private const string Clock =
        "(cast(strftime('%s', 'now') as integer) * 1000000 + cast(substr(strftime('%f', 'now'), 4) as integer) * 1000)";

    private const string Asked = """
        (select json_extract(value, '$.k') as k, json_extract(value, '$.s') as s, json_extract(value, '$.o') as o,
          json_extract(value, '$.d') as d, json_extract(value, '$.a') as a, json_extract(value, '$.t') as t,
          json_extract(value, '$.h') as h, json_extract(value, '$.n') as n from json_each({0})) as q
        """;

    /// <summary>A file has one clock, that of the machine.</summary>
    public override TimeSpan ClockMargin => TimeSpan.Zero;

    /// <summary>The library waits for the file's lock on the caller's thread.</summary>
    public override bool IsBlocking => true;

    protected override LeaseTexts Write(LeaseTable table)
    {
        var name = table.Quoted('"', '"');
        var own = "l.key = q.k and l.slot = q.s and l.owner = q.o";
        LockSql answer = new(
            $"select {Clock} || coalesce(group_concat(',' || l.owner || ' ' || l.slot || ' ' || l.token, ''), '') "
            + $"from {Asked} join {name} as l on {own} where l.expires > {Clock}");
        var busy = $"select 1 from {Asked} join {name} as l on l.key = q.k and l.slot = q.s where l.expires > {Clock} and l.owner <> q.o";
        return new()
        {
            Create = $"""
                create table if not exists {name} (
                  key text not null, slot integer not null default 0, owner text not null, token integer not null,
                  taken integer not null, expires integer not null, holder text not null, note text not null default '',
                  primary key (key, slot)) without rowid
                """,
            Acquire = [Take("true", "0"), answer],
            AcquireAll =
            [
                Take($"not exists ({busy})", $"(select max(l.token) + 1 from {Asked} join {name} as l on l.key = q.k and l.slot = q.s)"),
                answer,
            ],
            Renew =
            [
                new($"update {name} as l set expires = max({Clock} + q.d, l.taken + q.a) from {Asked} where {own} and l.expires > {Clock}"),
                answer,
            ],
            Release =
            [
                new($"update {name} as l set owner = '-' || l.owner, expires = max({Clock}, l.taken + q.a) from {Asked} where {own}"),

                // Another may have the row before a question comes, so that the number of rows that were changed tells. Where some were
                // not, those are told that nobody has taken since.
                new($"select {Clock} || coalesce(group_concat(',' || q.o || ' ' || q.s || ' 0', ''), '') "
                    + $"from {Asked} left join {name} as l on l.key = q.k and l.slot = q.s and l.owner = '-' || q.o "
                    + "where changes() = json_array_length({0}) or l.owner is not null"),
            ],
            Look =
            [
                new($"""
                    select json_group_array(json_object('k', l.key, 's', l.slot, 'o', l.owner, 't', l.token, 'h', l.holder, 'n', l.note,
                      'b', l.taken, 'e', l.expires, 'c', {Clock}))
                    from {name} as l where l.expires > {Clock} and (
                      {"{0}"} = '[]' or l.key in (select json_extract(value, '$.k') from json_each({"{0}"})))
                    """),
            ],

            AcquireSlot =
            [
                new($"""
                    update {name} as l set owner = q.o, token = max(l.token + 1, q.t, {Clock}), taken = {Clock},
                      expires = {Clock} + max(q.d, q.a), holder = q.h, note = q.n
                    from {Asked} where l.key = q.k and l.slot = (
                      select f.slot from {name} as f where f.key = q.k and f.slot between 1 and q.s
                        and (f.expires <= {Clock} or f.owner = q.o) order by f.owner = q.o desc, f.slot limit 1)
                    """),
                new($"""
                    select {Clock} || coalesce(group_concat(case when l.owner = q.o and l.expires > {Clock}
                      then ',' || l.owner || ' ' || l.slot || ' ' || l.token end, ''), '') || ',- 0 ' || count(l.slot)
                    from {Asked} left join {name} as l on l.key = q.k and l.slot between 1 and q.s
                    """),
            ],
            MakeSlots =
            [
                new($"""
                    insert or ignore into {name} (key, slot, owner, token, taken, expires, holder)
                    select q.k, q.s, '', 0, {Clock}, {Clock}, '' from {Asked}
                    """),
                new($"select {Clock} || ',- 0 ' || changes()"),
            ],

            // https://www.sqlite.org/lang_transaction.html: it fails in a transaction, and harms none. Without a read it locks nothing.
            Committed = [new("begin"), new("commit")],
            Clear =
            [
                new($"delete from {name} where expires < {Clock} - 86400000000 and token < {Clock}"),
                new("select cast(changes() as text)"),
            ],
        };

        LockSql Take(string condition, string least) => new($"""
            insert into {name} as l (key, slot, owner, token, taken, expires, holder, note)
            select q.k, q.s, q.o, max(q.t, {Clock}, coalesce({least}, 0)), {Clock}, {Clock} + max(q.d, q.a), q.h, q.n from {Asked}
            where {condition}
            on conflict (key, slot) do update set owner = excluded.owner, token = max(l.token + 1, excluded.token),
              taken = excluded.taken, expires = excluded.expires, holder = excluded.holder, note = excluded.note
            where l.expires <= excluded.taken or l.owner = excluded.owner
            """);
    }

    // https://www.sqlite.org/rescode.html. A missing table has no code of its own, but only the one for all faults of a statement.
    public override LeaseTrouble Read(DbError codes) => (codes.Number & 0xFF) switch
    {
        5 or 6 => LeaseTrouble.Again, // SQLITE_BUSY, SQLITE_LOCKED
        1 => LeaseTrouble.NoTable, // SQLITE_ERROR
        3 or 23 => LeaseTrouble.NoRight, // SQLITE_PERM, SQLITE_AUTH
        8 => LeaseTrouble.NoWrites, // SQLITE_READONLY
        0 or 4 or 9 or 10 => LeaseTrouble.Unknown, // SQLITE_ABORT, SQLITE_INTERRUPT, SQLITE_IOERR
        _ => LeaseTrouble.Refused,
    };
}
