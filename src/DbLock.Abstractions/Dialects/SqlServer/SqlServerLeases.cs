namespace DbLock;

/// <summary>Leases in a table of SQL Server (2017 and later). Written from the documentation, and run where a server is given.</summary>
internal sealed class SqlServerLeases : LeaseDialect
{
    private const string Exact = "collate Latin1_General_100_BIN2";
    private const string Declare = "set nocount on; declare @now datetime2(6) = sysutcdatetime(); ";
    private const string Clock = "datediff_big(microsecond, '1970-01-01', @now)";

    private const string Asked = $$"""
        (select k {{Exact}} as k, s, o, d, a, t, h, n from openjson({0}) with (k nvarchar(512) '$.k', s int '$.s', o varchar(64) '$.o',
          d bigint '$.d', a bigint '$.a', t bigint '$.t', h nvarchar(255) '$.h', n nvarchar(255) '$.n')) as q
        """;

    /// <summary>SQL Server does not tell a text from the same one with spaces after it.</summary>
    public override string Name(LockKey key)
    {
        var name = base.Name(key);
        return name.EndsWith(' ') ? LongName.Shorten(name + '\0', name, LeaseRow.LongestName, static text => text.Length) : name;
    }

    protected override LeaseTexts Write(LeaseTable table)
    {
        var name = table.Quoted('[', ']');
        var own = "l.[key] = q.k and l.slot = q.s and l.owner = q.o";
        var rows = "string_agg(cast(concat(',', q.o, ' ', l.slot, ' ', l.token) as nvarchar(max)), '')";
        var answer = $"select concat({Clock}, {rows}) from {Asked} join {name} as l on {own} where l.expires > @now";
        var busy = $"select 1 from {name} as l with (updlock, holdlock) join {Asked} on l.[key] = q.k and l.slot = q.s "
            + "where l.expires > @now and l.owner <> q.o";
        var least = End("l.taken", "q.a");
        return new()
        {
            Create = $"""
                if object_id(N'{name.Replace("'", "''", StringComparison.Ordinal)}') is null create table {name} (
                  [key] nvarchar(512) {Exact} not null, slot int not null default 0, owner varchar(64) {Exact} not null,
                  token bigint not null, taken datetime2(6) not null, expires datetime2(6) not null, holder nvarchar(255) not null,
                  note nvarchar(255) not null default N'', primary key nonclustered ([key], slot))
                """,
            Acquire = [new($"{Declare}{Take("q.t")} {answer}")],
            AcquireAll =
            [
                new($"""
                    {Declare}set xact_abort on; begin transaction; if not exists ({busy}) begin
                    declare @least bigint = (select max(l.token) + 1 from {name} as l join {Asked} on l.[key] = q.k and l.slot = q.s);
                    {Take("iif(q.t > @least, q.t, @least)")} end; commit; {answer}
                    """),
            ],
            Renew =
            [
                new($"""
                    {Declare}update l set expires = iif({End("@now", "q.d")} > {least}, {End("@now", "q.d")}, {least})
                    from {name} as l join {Asked} on {own} where l.expires > @now; {answer}
                    """),
            ],
            Release =
            [
                new($"""
                    {Declare}update l set owner = '-' + l.owner, expires = iif({least} > @now, {least}, @now)
                    from {name} as l join {Asked} on {own}; declare @released int = @@rowcount;
                    select concat({Clock}, string_agg(concat(',', q.o, ' ', q.s, ' 0'), '')) from {Asked}
                    left join {name} as l on l.[key] = q.k and l.slot = q.s and l.owner = '-' + q.o
                    where @released = (select count(*) from openjson({"{0}"})) or l.owner is not null
                    """),
            ],
            Look =
            [
                new($"""
                    {Declare}select coalesce((select l.[key] as k, l.slot as s, l.owner as o, l.token as t, l.holder as h, l.note as n,
                      {Clock.Replace("@now", "l.taken", StringComparison.Ordinal)} as b,
                      {Clock.Replace("@now", "l.expires", StringComparison.Ordinal)} as e, {Clock} as c
                    from {name} as l
                    where l.expires > @now and ({"{0}"} = N'[]' or l.[key] in (select q.k from {Asked})) for json path), N'[]')
                    """),
            ],
            AcquireSlot =
            [
                new($"""
                    {Declare}with free as (
                      select top (1) l.*, q.o as q_o, q.d as q_d, q.a as q_a, q.t as q_t, q.h as q_h, q.n as q_n
                      from {name} as l with (updlock, rowlock, readpast) join {Asked} on l.[key] = q.k and l.slot between 1 and q.s
                      where l.expires <= @now or l.owner = q.o order by iif(l.owner = q.o, 0, 1), l.slot)
                    update free set owner = q_o, token = (select max(v) from (values (token + 1), (q_t), ({Clock})) as m (v)), taken = @now,
                      expires = {End("@now", "iif(q_d > q_a, q_d, q_a)")}, holder = q_h, note = q_n;
                    {answer.Replace("select concat(", "declare @mine nvarchar(max) = (select concat(", StringComparison.Ordinal)
                        .Replace("l.slot = q.s", "l.slot between 1 and q.s", StringComparison.Ordinal)});
                    select concat(@mine, ',- 0 ', count(*)) from {name} as l join {Asked} on l.[key] = q.k and l.slot between 1 and q.s
                    """),
            ],
            MakeSlots =
            [
                new($"""
                    {Declare}insert into {name} ([key], slot, owner, token, taken, expires, holder)
                    select q.k, q.s, '', 0, @now, @now, N'' from {Asked}
                    where not exists (select 1 from {name} as l with (updlock, holdlock) where l.[key] = q.k and l.slot = q.s);
                    select concat({Clock}, ',- 0 ', @@rowcount)
                    """),
            ],
            Committed = [new($"select case when @@trancount > 0 then '{LeaseReply.Uncommitted}' else '' end")],
            Clear =
            [
                new($"{Declare}delete from {name} where expires < dateadd(day, -1, @now) and token < {Clock}; "
                    + "select cast(@@rowcount as nvarchar(20))"),
            ],
        };

        string Take(string least) => $"""
            merge into {name} with (holdlock) as l using {Asked} on l.[key] = q.k and l.slot = q.s
            when matched and (l.expires <= @now or l.owner = q.o) then update set owner = q.o,
              token = (select max(v) from (values (l.token + 1), ({least}), ({Clock})) as m (v)), taken = @now,
              expires = {End("@now", "iif(q.d > q.a, q.d, q.a)")}, holder = q.h, note = q.n
            when not matched then insert ([key], slot, owner, token, taken, expires, holder, note)
              values (q.k, q.s, q.o, (select max(v) from (values ({least}), ({Clock})) as m (v)), @now,
              {End("@now", "iif(q.d > q.a, q.d, q.a)")}, q.h, q.n);
            """;

        // A number of microseconds that dateadd takes must fit in 32 bits.
        static string End(string from, string microseconds) =>
            $"dateadd(microsecond, {microseconds} % 1000000, dateadd(second, {microseconds} / 1000000, {from}))";
    }

    // https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors
    public override LeaseTrouble Read(DbError codes) => codes.Number switch
    {
        2627 or 2601 or 1222 => LeaseTrouble.NotNow, // a duplicate key (twice), the lock timeout
        1205 or 3960 or 3961 => LeaseTrouble.Again, // a deadlock, a snapshot conflict
        208 or 207 => LeaseTrouble.NoTable,
        229 or 230 or 916 => LeaseTrouble.NoRight,
        3906 or 978 => LeaseTrouble.NoWrites, // the database is read-only
        <= 0 => LeaseTrouble.Unknown,
        _ => codes.SqlState is ['0', '8', ..] ? LeaseTrouble.Unknown : LeaseTrouble.Refused,
    };
}
