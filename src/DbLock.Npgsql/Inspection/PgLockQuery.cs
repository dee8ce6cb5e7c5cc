using System.Data.Common;
using System.Globalization;
using Npgsql;
using NpgsqlTypes;

namespace DbLock;

/// <summary>The question of which locks there are, over <c>pg_locks</c> and <c>pg_stat_activity</c>.</summary>
/// <param name="Filter">Which locks match.</param>
/// <param name="Names">The keys whose names the program knows.</param>
/// <param name="Contended">Whether all locks are wanted on things that somebody waits for, matching or not.</param>
/// <param name="Queue">Whether the server is asked in which order they wait, which it answers for one waiter at a time.</param>
internal sealed record PgLockQuery(PgLockFilter Filter, IReadOnlyCollection<LockKey> Names, bool Contended = false, bool Queue = false)
{
    private static readonly Version WaitStartSince = new(14, 0);

    // A transaction sees pg_stat_activity as it was when it first looked, so that snapshot is cleared first; the lateral subquery runs
    // after it. The target of a lock is compared as one text, which the server can hash, so that 500 waiters beside 10,000 locks cost
    // little. The locks of the question itself are left out: those on its own transaction, and on catalogs, whose oids are below 16384.
    private static readonly string Sql = $$"""
        select q.*
        from (select pg_catalog.pg_stat_clear_snapshot() is null as failed offset 0) as c
        cross join lateral (
          with locks as materialized (
            select l.*, {0} as wait_start, {{PgLock.TargetSql}} as target
            from pg_catalog.pg_locks as l)
          select
            l.target, l.locktype, l.mode, l.granted, l.fastpath, l.pid, l.virtualtransaction, l.database, l.relation, l.page, l.tuple,
            l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid, l.wait_start,
            extract(epoch from pg_catalog.clock_timestamp() - l.wait_start)::double precision as wait_duration,
            {{PostgreSqlSessions.Clean("d.datname::pg_catalog.text")}} as lock_database,
            {{PostgreSqlSessions.Clean("n.nspname::pg_catalog.text")}} as schema,
            {{PostgreSqlSessions.Clean("r.relname::pg_catalog.text")}} as relation_name,
            r.relkind::pg_catalog.text as relation_kind,
            m.matches,
            {{PostgreSqlSessions.Clean("x.gid")}} as gid,
            case when $2 and not l.granted then
              pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(coalesce(s.leader_pid, l.pid)), ' ')
            end as blocking_pids,
            s.pid as session_pid, s.leader_pid, s.backend_start, s.backend_type,
            {{PostgreSqlSessions.Clean("s.database::pg_catalog.text")}} as session_database,
            {{PostgreSqlSessions.Clean("s.\"user\"::pg_catalog.text")}} as "user",
            {{PostgreSqlSessions.Clean("s.application")}} as application,
            s.client, s.state,
            {{PostgreSqlSessions.Clean("s.query")}} as query,
            s.session_age, s.clock, s.transaction_age, s.state_age, s.is_superuser, s.is_own, s.is_partial
          from locks as l
          left join pg_catalog.pg_database as d on d.oid = l.database
          left join pg_catalog.pg_class as r on r.oid = l.relation and (l.database = 0 or d.datname = pg_catalog.current_database())
          left join pg_catalog.pg_namespace as n on n.oid = r.relnamespace
          left join ({{PostgreSqlSessions.Sql}}) as s on s.pid = l.pid
          left join lateral (
            select p.gid
            from locks as t
            join pg_catalog.pg_prepared_xacts as p on p.transaction = t.transactionid
            where t.locktype = 'transactionid'
              and t.granted
              and t.pid is null
              and t.virtualtransaction = l.virtualtransaction) as x on l.pid is null
          cross join lateral (select coalesce(
                ($3 is null or l.pid = any ($3::pg_catalog.text::int[]) or s.leader_pid = any ($3::pg_catalog.text::int[]))
            and ($4 is null or coalesce(d.datname, s.database) = any ($4::pg_catalog.text::pg_catalog.text[]))
            and ($5 is null or exists (
              select 1
              from rows from (
                pg_catalog.unnest($5::pg_catalog.text::pg_catalog.text[]),
                pg_catalog.unnest($6::pg_catalog.text::pg_catalog.text[])) as f (schema, name)
              where f.name::pg_catalog.name = r.relname and (f.schema is null or f.schema::pg_catalog.name = n.nspname)))
            and ($7 is null or l.locktype = 'advisory' and ($4 is not null or d.datname = pg_catalog.current_database()) and exists (
              select 1
              from rows from (
                pg_catalog.unnest($7::pg_catalog.text::bigint[]),
                pg_catalog.unnest($8::pg_catalog.text::smallint[])) as k (number, subid)
              where k.subid = l.objsubid and k.number = ((l.classid::bigint << 32) | l.objid::bigint)))
            and ($9 is null or l.locktype = any ($9::pg_catalog.text::pg_catalog.text[]))
            and ($10 is null or l.mode = any ($10::pg_catalog.text::pg_catalog.text[]))
            and ($11 is null or l.granted = $11)
            and ($12 is null or s.application = any ($12::pg_catalog.text::pg_catalog.text[])
              or pg_catalog.regexp_replace(s.application, '{{ToldName.Added}}', '') = any ($12::pg_catalog.text::pg_catalog.text[]))
            and ($13 is null or s."user" = any ($13::pg_catalog.text::pg_catalog.text[]))
            and ($14 is null or s.state = any ($14::pg_catalog.text::pg_catalog.text[]))
            and ($15 is null or s.transaction_age >= $15)
            and ($16 is null or s.state_age >= $16)
            and ($17 is null or extract(epoch from pg_catalog.clock_timestamp() - l.wait_start) >= $17), false) as matches offset 0) as m
          where not c.failed
            and not (l.pid = pg_catalog.pg_backend_pid()
              and (l.locktype = 'virtualxid' or (l.locktype = 'relation' and l.mode = 'AccessShareLock' and l.relation::bigint < 16384)))
            and case when $1 then l.target in (select w.target from locks as w where not w.granted) else m.matches end
          order by l.granted, l.wait_start, s.state_age desc, l.pid, l.target
          offset 0) as q
        """;

    private static readonly string WithWaitStart = Sql.Replace("{0}", "l.waitstart", StringComparison.Ordinal);

    // pg_locks has no column waitstart before PostgreSQL 14.
    private static readonly string WithoutWaitStart = Sql.Replace("{0}", "null::timestamp with time zone", StringComparison.Ordinal);

    public async ValueTask<List<PgLock>> Run(NpgsqlConnection connection, bool async, CancellationToken cancellationToken)
    {
        var hasWaitStart = connection.PostgreSqlVersion >= WaitStartSince;
        if (Filter.MinWait is not null && !hasWaitStart)
        {
            throw new NotSupportedException(
                $"PostgreSQL {connection.PostgreSqlVersion} does not say since when a lock is waited for (14 and later do): leave out "
                + "PgLockFilter.MinWait, or use MinStateAge.");
        }

        var sessions = new Dictionary<int, PgSession>();
        var names = Names.Concat(Filter.Keys ?? [])
            .GroupBy(key => key.ToPgLocks())
            .ToDictionary(group => group.Key, group => group.First());
        using var command = new NpgsqlCommand(hasWaitStart ? WithWaitStart : WithoutWaitStart, connection);
        AddParameters(command.Parameters);
        var locks = await command.ReadRows(reader => ReadLock(new Row(reader), sessions), async, cancellationToken).ConfigureAwait(false);

        // A name that a session tells need not be believed: it names only the lock whose number it makes.
        foreach (var key in sessions.Values.SelectMany(session => session.Written).Distinct().SelectMany(ToldName.KeysOf))
        {
            names.TryAdd(key.ToPgLocks(), key);
        }

        return
        [
            .. locks.Select(@lock => @lock is { LockType: "advisory", ObjectKey: { } key }
                ? Named(@lock, names.GetValueOrDefault(key) ?? Decode(key))
                : @lock),
        ];
    }

    private static PgLock Named(PgLock @lock, LockKey? key) => @lock with
    {
        Key = key,
        HeldFor = @lock.Granted && key is not null ? @lock.Session?.HeldFor(key) : null,
        ToldName = key is null ? null : @lock.Session?.NameOf(key, @lock.Granted),
    };

    private static PgLock ReadLock(Row row, Dictionary<int, PgSession> sessions)
    {
        var key = row.Value<uint>("classid") is { } classId
            ? new PgLocksKey(classId, row.Value<uint>("objid")!.Value, row.Value<short>("objsubid")!.Value)
            : default(PgLocksKey?);
        return new PgLock
        {
            Target = row.Text("target")!,
            LockType = row.Text("locktype")!,
            Mode = PgLockModeExtensions.Parse(row.Text("mode")!),
            Granted = row.Value<bool>("granted")!.Value,
            FastPath = row.Value<bool>("fastpath")!.Value,
            Pid = row.Value<int>("pid"),
            Session = ReadSession(row, sessions),
            PreparedTransaction = row.Text("gid"),
            VirtualTransaction = row.Text("virtualtransaction")!,
            DatabaseOid = row.Value<uint>("database"),
            Database = row.Text("lock_database"),
            RelationOid = row.Value<uint>("relation"),
            Schema = row.Text("schema"),
            Relation = row.Text("relation_name"),
            RelationKind = Kind(row.Text("relation_kind")),
            Page = row.Value<int>("page"),
            Tuple = row.Value<short>("tuple"),
            VirtualXid = row.Text("virtualxid"),
            TransactionId = row.Value<uint>("transactionid"),
            ObjectKey = key,
            WaitStart = row.Value<DateTimeOffset>("wait_start"),
            WaitDuration = row.Age("wait_duration"),
            Matches = row.Value<bool>("matches")!.Value,
            BlockingPids = row.Set("blocking_pids"),
        };
    }

    private static PgSession? ReadSession(Row row, Dictionary<int, PgSession> sessions)
    {
        if (row.Value<int>("session_pid") is not { } pid)
        {
            return null;
        }

        if (sessions.TryGetValue(pid, out var session))
        {
            return session;
        }

        var (application, told) = ToldName.Split(row.Text("application"));
        return sessions[pid] = new PgSession
        {
            Id = pid,
            LeaderPid = row.Value<int>("leader_pid"),
            Since = row.Value<DateTimeOffset>("backend_start"),
            BackendType = row.Text("backend_type"),
            Database = row.Text("session_database"),
            User = row.Text("user"),
            Application = application,
            Told = told,
            Clock = row.Value<DateTimeOffset>("clock")!.Value,
            Client = row.Text("client"),
            State = row.Text("state"),
            IsIdle = PostgreSqlSessions.IsIdle(row.Text("state")),
            Query = row.Text("query"),
            SessionAge = row.Age("session_age"),
            TransactionAge = row.Age("transaction_age"),
            StateAge = row.Age("state_age"),
            IsSuperuser = row.Value<bool>("is_superuser")!.Value,
            IsOwn = row.Value<bool>("is_own")!.Value,
            IsPartial = row.Value<bool>("is_partial")!.Value,
        };
    }

    private static LockKey? Decode(PgLocksKey key) => key switch
    {
        { ObjSubId: 1 } => LockKey.From((long)(((ulong)key.ClassId << 32) | key.ObjId)),
        { ObjSubId: 2 } => LockKey.From((int)key.ClassId, (int)key.ObjId),
        _ => null,
    };

    // The letters are those of pg_class.relkind: https://www.postgresql.org/docs/current/catalog-pg-class.html
    private static string? Kind(string? kind) => kind switch
    {
        "r" => "table",
        "i" => "index",
        "S" => "sequence",
        "t" => "toast table",
        "v" => "view",
        "m" => "materialized view",
        "c" => "composite type",
        "f" => "foreign table",
        "p" => "partitioned table",
        "I" => "partitioned index",
        _ => kind,
    };

    private void AddParameters(NpgsqlParameterCollection parameters)
    {
        Add(NpgsqlDbType.Boolean, Contended);
        Add(NpgsqlDbType.Boolean, Queue);
        AddArray(Filter.Pids);
        AddArray(Filter.Databases);
        AddArray(Filter.Relations?.Select(relation => relation.Schema));
        AddArray(Filter.Relations?.Select(relation => relation.Name));
        AddArray(Filter.Keys?.Select(key => key.Number));
        AddArray(Filter.Keys?.Select(key => key.ToPgLocks().ObjSubId));
        AddArray(Filter.LockTypes);
        AddArray(Filter.Modes?.Select(mode => mode.InPgLocks()));
        Add(NpgsqlDbType.Boolean, Filter.Granted);
        AddArray(Filter.Applications);
        AddArray(Filter.Users);
        AddArray(Filter.States);
        Add(NpgsqlDbType.Double, Filter.MinTransactionAge?.TotalSeconds);
        Add(NpgsqlDbType.Double, Filter.MinStateAge?.TotalSeconds);
        Add(NpgsqlDbType.Double, Filter.MinWait?.TotalSeconds);

        void AddArray<T>(IEnumerable<T>? values) => Add(NpgsqlDbType.Text, values is null ? null : PgArray.Text(values));

        void Add(NpgsqlDbType type, object? value) =>
            parameters.Add(new NpgsqlParameter { NpgsqlDbType = type, Value = value ?? DBNull.Value });
    }

    /// <summary>The row at which a reader stands; null for NULL.</summary>
    private readonly struct Row(DbDataReader reader)
    {
        public T? Value<T>(string column)
            where T : struct => reader.GetOrdinal(column) is var i && reader.IsDBNull(i) ? null : reader.GetFieldValue<T>(i);

        public string? Text(string column) => reader.GetOrdinal(column) is var i && reader.IsDBNull(i) ? null : reader.GetString(i);

        public HashSet<int> Set(string column)
        {
            var numbers = (Text(column) ?? "").Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return [.. numbers.Select(number => int.Parse(number, CultureInfo.InvariantCulture))];
        }

        public TimeSpan? Age(string column) => Value<double>(column) is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
    }
}
