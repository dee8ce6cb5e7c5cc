namespace DbLock;

/// <summary>Leases in a table of MySQL (8.0 and later) or MariaDB (10.6 and later), a Galera cluster included.</summary>
/// <remarks>
/// <para>
/// <c>UTC_TIMESTAMP</c> is fixed at the statement's start and follows no time zone. What was taken is asked for in a statement after the
/// insert: on a cluster, the rows that an <c>INSERT … RETURNING</c> answers with may be those of an attempt that was rolled back.
/// </para>
/// <para>The rows are read in the order of the JSON, which is that of their names, so that two statements lock them in one order.</para>
/// </remarks>
internal sealed class MySqlLeases(bool isMariaDb) : LeaseDialect
{
    private const string Now = "utc_timestamp(6)";

    private static readonly string Clock = Microseconds(Now);

    protected override LeaseTexts Write(LeaseTable table)
    {
        var name = table.Quoted('`', '`');
        var collation = isMariaDb ? "utf8mb4_nopad_bin" : "utf8mb4_0900_bin";
        var rows = "json_table({0}, '$[*]' columns (k varchar(512) character set utf8mb4 path '$.k', s int path '$.s', "
            + "o varchar(64) character set utf8mb4 path '$.o', d bigint path '$.d', a bigint path '$.a', t bigint path '$.t', "
            + "h varchar(255) character set utf8mb4 path '$.h', n varchar(255) character set utf8mb4 path '$.n')) as q";
        var own = $"l.`key` = q.k collate {collation} and l.slot = q.s and l.owner = q.o collate {collation}";
        var isCommitted = isMariaDb ? "@@autocommit = 1 and @@in_transaction = 0" : "@@autocommit = 1";
        var slots = $"`key` = {Asked("k", "char(512)")} collate {collation} and slot between 1 and {Asked("s", "signed")}";
        var whole = isMariaDb ? MySqlTexts.Whole : "";
        var answer = $"{whole}select concat(if({isCommitted}, {Clock}, '{LeaseReply.Uncommitted}'), "
            + "coalesce(json_arrayagg(concat(l.owner, ' ', l.slot, ' ', l.token)), '')) "
            + $"from {rows} straight_join {name} as l on {own} and l.expires > {Now}";

        // Without an else the row stays its owner's. With one that overflows, the statement fails, with all of its rows. Each column is set
        // after the owner, which decides, so that the clock is read once.
        LockSql[] Acquire(string orElse) =>
        [
            new($"""
                {Set("innodb_lock_wait_timeout=2, wsrep_retry_autocommit=0, wsrep_sync_wait=7")}insert into {name}
                  (`key`, slot, owner, token, taken, expires, holder, note)
                select q.k, q.s, q.o, greatest(q.t, {Clock}), {Now}, {Now} + interval greatest(q.d, q.a) microsecond, q.h, q.n from {rows}
                on duplicate key update owner = if(expires <= {Now} or owner = values(owner), values(owner), {orElse}),
                  token = if(owner = values(owner), greatest(token + 1, values(token)), token),
                  taken = if(owner = values(owner), values(taken), taken), holder = if(owner = values(owner), values(holder), holder),
                  note = if(owner = values(owner), values(note), note), expires = if(owner = values(owner), values(expires), expires)
                """),
            new(answer),
        ];

        string Update(string seconds) => Set(
                $"innodb_lock_wait_timeout={seconds}, sql_safe_updates=0, wsrep_retry_autocommit=0, wsrep_sync_wait=3")
            + $"update {rows} straight_join {name} as l on {own} set ";
        return new()
        {
            Create = $"""
                create table if not exists {name} (
                  `key` varchar(512) character set utf8mb4 collate {collation} not null, slot int not null default 0,
                  owner varchar(64) character set utf8mb4 collate {collation} not null, token bigint not null,
                  taken datetime(6) not null, expires datetime(6) not null,
                  holder varchar(255) character set utf8mb4 not null, note varchar(255) character set utf8mb4 not null default '',
                  primary key (`key`, slot)) engine=InnoDB
                """,
            Acquire = Acquire("owner"),
            AcquireAll = Acquire("slot + 9223372036854775807 + 1"),
            Renew =
            [
                // Another's transaction may have one of the rows, for which the others are not kept waiting for long.
                new($"{Update("1")}l.expires = greatest({Now} + interval q.d microsecond, l.taken + interval q.a microsecond) "
                    + $"where l.expires > {Now}"),
                new(answer),
            ],
            Release =
            [
                // Another may have the row before a question comes. Every row that is found is changed, so that their number tells. Where
                // some were not, those are told that nobody has taken since.
                new($"{Update("2")}l.owner = concat('-', l.owner), l.expires = greatest({Now}, l.taken + interval q.a microsecond)"),
                new($"{whole}select concat({Clock}, coalesce(json_arrayagg(concat(q.o, ' ', q.s, ' 0')), '')) "
                    + $"from {rows} left join {name} as l on l.`key` = q.k collate {collation} and l.slot = q.s "
                    + $"and l.owner = concat('-', q.o) collate {collation} "
                    + "where row_count() = json_length({0}) or l.owner is not null"),
            ],
            Look =
            [
                new($"""
                    {whole}select coalesce(json_arrayagg(json_object('k', l.`key`, 's', l.slot, 'o', l.owner, 't', l.token,
                      'h', l.holder, 'n', l.note, 'b', {Microseconds("l.taken")}, 'e', {Microseconds("l.expires")}, 'c', {Clock})), '[]')
                    from {name} as l where l.expires > {Now} and (
                      {"{0}"} = '[]' or l.`key` in (select q.k collate {collation} from {rows}))
                    """),
            ],

            // One table can be updated with a limit, several cannot, so that the one row that is asked for is read value by value.
            AcquireSlot =
            [
                new($"""
                    {Set("innodb_lock_wait_timeout=2, wsrep_retry_autocommit=0, wsrep_sync_wait=3")}update {name}
                    set owner = {Asked("o", "char(64)")}, token = greatest(token + 1, {Asked("t", "signed")}, {Clock}), taken = {Now},
                      expires = {Now} + interval greatest({Asked("d", "signed")}, {Asked("a", "signed")}) microsecond,
                      holder = {Asked("h", "char(255)")}, note = {Asked("n", "char(255)")}
                    where {slots} and (expires <= {Now} or owner = {Asked("o", "char(64)")} collate {collation})
                    order by owner = {Asked("o", "char(64)")} collate {collation} desc, slot limit 1
                    """),
                new($"""
                    select concat(if({isCommitted}, {Clock}, '{LeaseReply.Uncommitted}'), coalesce(
                      (select json_arrayagg(concat(owner, ' ', slot, ' ', token)) from {name}
                        where {slots} and owner = {Asked("o", "char(64)")} collate {collation} and expires > {Now}), ''),
                      ',- 0 ', (select count(*) from {name} where {slots}))
                    """),
            ],
            MakeSlots =
            [
                new($"""
                    {Set("innodb_lock_wait_timeout=2, wsrep_retry_autocommit=0")}insert ignore into {name}
                      (`key`, slot, owner, token, taken, expires, holder) select q.k, q.s, '', 0, {Now}, {Now}, '' from {rows}
                    """),
                new($"select concat({Clock}, ',- 0 ', row_count())"),
            ],

            // https://dev.mysql.com/doc/refman/8.4/en/set-transaction.html: it is refused in a transaction. MariaDB's answers tell.
            Committed = isMariaDb ? [] : [new("set transaction read write")],

            // A delete locks every row that it reads, and by default it keeps them and the gaps between until its end: while it waited for
            // a row that another's transaction has, no lease could be acquired or renewed. At this level it keeps the old rows alone.
            // https://dev.mysql.com/doc/refman/8.4/en/innodb-transaction-isolation-levels.html
            Clear =
            [
                new("set transaction isolation level read committed"),
                new($"delete from {name} where expires < {Now} - interval 1 day and token < {Clock}"),
                new("select concat(row_count(), '')"),
            ],
        };
    }

    // https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and https://mariadb.com/kb/en/mariadb-error-code-reference/
    public override LeaseTrouble Read(DbError codes) => codes.Number switch
    {
        1690 => LeaseTrouble.NotNow, // ER_DATA_OUT_OF_RANGE
        1205 or 1213 or 1020 => LeaseTrouble.Again, // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_CHECKREAD
        1146 or 1054 or 1049 or 1046 => LeaseTrouble.NoTable, // there is no such table, column, database; no database is chosen
        1142 or 1143 or 1044 => LeaseTrouble.NoRight, // the access to a table, a column, a database is denied
        1047 or 1180 or 1290 or 1836 => LeaseTrouble.NoWrites, // no primary component (twice), read-only (twice)
        1317 or 1969 or 3024 => LeaseTrouble.Unknown, // it was cancelled
        var number when MySqlErrors.IsLost(number) => LeaseTrouble.Unknown,
        <= 0 => LeaseTrouble.Unknown, // the client's own, as the -1 of MySqlConnector when a command's time is over
        _ => LeaseTrouble.Refused,
    };

    private static string Asked(string name, string type) =>
        $"cast(json_unquote(json_extract({{0}}, '$[0].{name}')) as {type}{(type[0] == 'c' ? " character set utf8mb4" : "")})";

    private static string Microseconds(string time) => $"timestampdiff(microsecond, '1970-01-01', {time})";

    // https://mariadb.com/kb/en/set-statement/
    private string Set(string variables) => isMariaDb ? $"set statement {variables} for " : "";
}
