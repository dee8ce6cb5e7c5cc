using System.Text.Json;

namespace DbLock;

/// <summary>The question who holds an advisory lock, and how its answer is read.</summary>
internal static class PostgreSqlHolders
{
    /// <summary>Returns the question. Its answer is one text of JSON, so that any driver can ask it.</summary>
    /// <param name="isKey">The condition on a row of <c>pg_locks</c> named l.</param>
    /// <remarks>
    /// A transaction sees <c>pg_stat_activity</c> as it was when it first looked, so that view is cleared before it is read
    /// (<see href="https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-STATS-VIEWS"/>). A prepared transaction has no
    /// process; it is found by the lock that it holds on its own number.
    /// </remarks>
    public static LockSql Question(string isKey) => new($$"""
        select {{PostgreSqlSessions.Clean("h.answer::pg_catalog.text")}}
        from (select pg_catalog.pg_stat_clear_snapshot() is null as failed offset 0) as c
        cross join lateral (
          select pg_catalog.json_build_object(
            'standby', pg_catalog.pg_is_in_recovery(),
            'number', pg_catalog.min((l.classid::bigint << 32) | l.objid::bigint),
            'pair', pg_catalog.min(l.objsubid) = 2,
            'waiting', pg_catalog.count(*) filter (where not l.granted and l.pid <> pg_catalog.pg_backend_pid()),
            'holders', coalesce(
              pg_catalog.json_agg(
                pg_catalog.json_build_object('shared', l.mode = 'ShareLock', 'session', pg_catalog.row_to_json(s), 'prepared', x.gid)
                order by s.state_age desc, s.pid)
              filter (where l.granted), '[]'::pg_catalog.json)) as answer
          from pg_catalog.pg_locks as l
          left join ({{PostgreSqlSessions.Sql}}) as s on s.pid = l.pid
          left join lateral (
            select p.gid from pg_catalog.pg_locks as t join pg_catalog.pg_prepared_xacts as p on p.transaction = t.transactionid
            where t.locktype = 'transactionid' and t.granted and t.pid is null and t.virtualtransaction = l.virtualtransaction) as x
            on l.pid is null
          where not c.failed and l.locktype = 'advisory' and {{isKey}}) as h
        """);

    /// <summary>
    /// Gets the question who holds which of many locks. Parameter 0 has their numbers, and parameter 1 whether they are pairs, as arrays.
    /// It reads the lock table once, and its answer has each session once.
    /// </summary>
    public static LockSql QuestionOfMany { get; } = new($$"""
        with l as materialized (
          select l.pid, l.virtualtransaction, l.granted, l.mode = 'ShareLock' as shared, u.k, u.p
          from rows from (pg_catalog.unnest({0}::pg_catalog.text::bigint[]), pg_catalog.unnest({1}::pg_catalog.text::boolean[])) as u (k, p)
          join pg_catalog.pg_locks as l
            on l.locktype = 'advisory' and (l.classid::bigint << 32) | l.objid::bigint = u.k and (l.objsubid = 2) = u.p
          where l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()))
        select {{PostgreSqlSessions.Clean("h.answer::pg_catalog.text")}}
        from (
          select pg_catalog.json_build_object(
            'standby', pg_catalog.pg_is_in_recovery(),
            'locks', coalesce((
              select pg_catalog.json_agg(pg_catalog.json_build_array(l.k, l.p, l.pid, l.shared, l.granted, x.gid))
              from l
              left join lateral (
                select p.gid from pg_catalog.pg_locks as t join pg_catalog.pg_prepared_xacts as p on p.transaction = t.transactionid
                where t.locktype = 'transactionid' and t.granted and t.pid is null and t.virtualtransaction = l.virtualtransaction) as x
                on l.pid is null), '[]'::pg_catalog.json),
            'sessions', coalesce((
              select pg_catalog.json_agg(pg_catalog.row_to_json(s)) from ({{PostgreSqlSessions.Sql}}) as s
              where s.pid in (select l.pid from l where l.granted)),
              '[]'::pg_catalog.json)) as answer) as h
        """);

    /// <summary>Reads the answer to <see cref="QuestionOfMany"/>.</summary>
    public static Dictionary<LockKey, LockHolders> ReadMany(IReadOnlyCollection<LockKey> keys, object? answer)
    {
        using var json = JsonDocument.Parse(answer as string ?? throw LockCarrier.NotAnswered());
        if (json.RootElement.GetProperty("standby").GetBoolean())
        {
            throw PostgreSqlTrust.OnStandby();
        }

        var sessions = json.RootElement.GetProperty("sessions").EnumerateArray().Select(Session).ToDictionary(session => session.Pid);
        var locks = json.RootElement.GetProperty("locks").EnumerateArray().Select(one => (
            Key: (one[0].GetInt64(), one[1].GetBoolean()),
            Granted: one[4].GetBoolean(),
            Holder: new LockHolder(
                one[2].ValueKind == JsonValueKind.Number ? sessions.GetValueOrDefault(one[2].GetInt32()) : null,
                one[3].GetBoolean(),
                one[5].GetString())))
            .ToLookup(one => one.Key);
        return keys.Distinct().ToDictionary(key => key, HoldersOf);

        LockHolders HoldersOf(LockKey key)
        {
            var its = locks[(key.Number, key.IsPair)];
            var holders = its.Where(one => one.Granted).Select(one => one.Holder).OrderByDescending(holder => holder.Session?.StateAge);
            return new LockHolders(key, [.. holders], its.Count(one => !one.Granted));
        }
    }

    public static LockHolders Read(LockKey key, object? answer)
    {
        using var json = JsonDocument.Parse(answer as string ?? throw new LockException(
            $"The server did not answer who holds lock '{key}', as PostgreSQL does: something between changes its answers. Connect to "
            + "the server directly."));
        if (json.RootElement.GetProperty("standby").GetBoolean())
        {
            throw PostgreSqlTrust.OnStandby();
        }

        var one = json.RootElement.GetProperty("number") is { ValueKind: JsonValueKind.Number } number
            ? key.Keys.FirstOrDefault(
                one => one.Number == number.GetInt64() && one.IsPair == json.RootElement.GetProperty("pair").GetBoolean()) ?? key
            : key;
        var holders = json.RootElement.GetProperty("holders").EnumerateArray().Select(holder => Holder(holder, one)).ToArray();
        return new LockHolders(one, holders, json.RootElement.GetProperty("waiting").GetInt32());
    }

    private static LockHolder Holder(JsonElement json, LockKey key)
    {
        var holder = json.GetProperty("session") is { ValueKind: JsonValueKind.Object } session ? Session(session) : null;
        var (shared, prepared) = (json.GetProperty("shared").GetBoolean(), json.GetProperty("prepared").GetString());
        return new LockHolder(holder, shared, prepared) { HeldFor = holder?.HeldFor(key) };
    }

    private static PgSession Session(JsonElement json)
    {
        var (application, told) = ToldName.Split(Text("application"));
        return new PgSession
        {
            Id = json.GetProperty("pid").GetInt32(),
            Since = Has("backend_start", out var start) ? start.GetDateTimeOffset() : null,
            BackendType = Text("backend_type"),
            Database = Text("database"),
            User = Text("user"),
            Application = application,
            Told = told,
            Clock = json.GetProperty("clock").GetDateTimeOffset(),
            Client = Text("client"),
            State = Text("state"),
            IsIdle = PostgreSqlSessions.IsIdle(Text("state")),
            Query = Text("query"),
            SessionAge = Age("session_age"),
            TransactionAge = Age("transaction_age"),
            StateAge = Age("state_age"),
            IsSuperuser = json.GetProperty("is_superuser").GetBoolean(),
            IsOwn = json.GetProperty("is_own").GetBoolean(),
            IsPartial = json.GetProperty("is_partial").GetBoolean(),
        };

        bool Has(string name, out JsonElement value)
        {
            value = json.GetProperty(name);
            return value.ValueKind != JsonValueKind.Null;
        }

        string? Text(string name) => json.GetProperty(name).GetString();

        TimeSpan? Age(string name) => Has(name, out var seconds) ? TimeSpan.FromSeconds(seconds.GetDouble()) : null;
    }
}
