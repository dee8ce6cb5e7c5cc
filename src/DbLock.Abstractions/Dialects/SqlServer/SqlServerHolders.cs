using System.Data;
using System.Text.Json;

namespace DbLock;

/// <summary>The question who holds application locks, and how its answer is read.</summary>
/// <remarks>
/// <see href="https://learn.microsoft.com/sql/relational-databases/system-dynamic-management-views/sys-dm-tran-locks-transact-sql"/>. The
/// server shows the first 32 characters of a name and a hash, so that long names with one beginning are told together.
/// </remarks>
internal static class SqlServerHolders
{
    private const int Shown = 32;

    // The rights are asked for first: a question that is refused is an error, which XACT_ABORT ends the caller's transaction for. 5 is
    // Azure's SQL Database, where a right in the database is enough. The names of rights that a server does not know answer null.
    private static readonly LockSql Sql = new("""
        if coalesce(has_perms_by_name(null, null, 'VIEW SERVER STATE'), 0) = 0
            and coalesce(has_perms_by_name(null, null, 'VIEW SERVER PERFORMANCE STATE'), 0) = 0
            and (serverproperty('EngineEdition') <> 5 or coalesce(has_perms_by_name(db_name(), 'DATABASE', 'VIEW DATABASE STATE'), 0) = 0)
          select '{"hidden":true}'
        else
          select (
            select json_query(coalesce((
              select l.resource_description as resource, l.request_session_id as id, l.request_mode as mode, l.request_status as status,
                case when l.request_session_id = @@spid then 1 else 0 end as own, s.login_name as [user], s.program_name as application,
                coalesce(c.client_net_address, s.host_name) as client, db_name(s.database_id) as [database], s.status as state,
                todatetimeoffset(s.login_time, datename(tzoffset, sysdatetimeoffset())) as since,
                datediff_big(millisecond, s.login_time, sysdatetime()) as session_age,
                datediff_big(millisecond, case s.status when 'sleeping' then s.last_request_end_time else s.last_request_start_time end,
                  sysdatetime()) as state_age,
                left(t.text, 1024) as query
              from sys.dm_tran_locks as l
              left join sys.dm_exec_sessions as s on s.session_id = l.request_session_id
              left join sys.dm_exec_connections as c on c.session_id = l.request_session_id and c.parent_connection_id is null
              outer apply sys.dm_exec_sql_text(c.most_recent_sql_handle) as t
              where l.resource_type = 'APPLICATION' and l.resource_database_id = db_id()
                and exists (
                  select 1 from openjson({0}) as k
                  where charindex(k.value collate Latin1_General_BIN2, l.resource_description collate Latin1_General_BIN2) = 1)
              for json path, include_null_values), '[]')) as locks
            for json path, without_array_wrapper)
        """);

    /// <summary>Returns the question for names. Its answer is one text of JSON.</summary>
    public static LockStatement Question(IEnumerable<string> names) =>
        new(new LockCommand(Sql, new LockParameter(DbType.String, SqlServerNames.ToJson(names.Select(Resource)))));

    /// <summary>Reads who holds which of the keys.</summary>
    /// <param name="keys">The keys, each a single one.</param>
    /// <param name="identify">The name that the server knows a key by.</param>
    /// <param name="answer">The value that came back.</param>
    public static LockHolders[] Read(IReadOnlyList<LockKey> keys, Func<LockKey, string> identify, object? answer)
    {
        using var json = JsonDocument.Parse(answer as string ?? throw LockCarrier.NotAnswered());
        if (json.RootElement.TryGetProperty("hidden", out _))
        {
            return [.. keys.Select(key => new LockHolders(key, [], 0)
            {
                Hidden = "hidden from this user (grant VIEW SERVER STATE, or on Azure VIEW DATABASE STATE, to see it)",
            })];
        }

        JsonElement[] locks = [.. json.RootElement.GetProperty("locks").EnumerateArray()];
        return [.. keys.Select(HoldersOf)];

        LockHolders HoldersOf(LockKey key)
        {
            var resource = Resource(identify(key));
            var its = locks.Where(one => one.GetProperty("resource").GetString()!.StartsWith(resource, StringComparison.Ordinal)).ToList();

            // A session may hold it twice: by itself, and by its transaction.
            var holders = its.Where(IsGranted).DistinctBy(Id).Select(one => new LockHolder(Session(one), IsShared(one), null));
            return new(key, [.. holders.OrderByDescending(one => one.Session!.StateAge)], its.Count(one => !IsGranted(one) && !IsOwn(one)));
        }

        static bool IsGranted(JsonElement one) => one.GetProperty("status").GetString() == "GRANT";

        static bool IsShared(JsonElement one) => one.GetProperty("mode").GetString() == "S";
    }

    private static string Resource(string name) => $"0:[{(name.Length > Shown ? name[..Shown] : name)}]:(";

    private static long Id(JsonElement one) => one.GetProperty("id").GetInt64();

    private static bool IsOwn(JsonElement one) => one.GetProperty("own").GetInt32() == 1;

    private static LockSession Session(JsonElement one)
    {
        var state = Text("state");
        return new LockSession
        {
            Id = Id(one),
            User = Text("user"),
            Application = Text("application"),
            Client = Text("client"),
            Database = Text("database"),
            State = state,
            IsIdle = state == "sleeping",
            Query = WithoutParameters(Text("query")),
            Since = one.GetProperty("since") is { ValueKind: JsonValueKind.String } since ? since.GetDateTimeOffset() : null,
            SessionAge = Age("session_age"),
            StateAge = Age("state_age"),
            IsOwn = IsOwn(one),
        };

        string? Text(string name) => one.GetProperty(name).GetString() is { Length: > 0 } text ? text : null;

        TimeSpan? Age(string name) =>
            one.GetProperty(name) is { ValueKind: JsonValueKind.Number } age ? TimeSpan.FromMilliseconds(age.GetInt64()) : null;
    }

    // A statement with parameters is kept with their declaration before it: (@p0 nvarchar(4000))select …
    private static string? WithoutParameters(string? query) =>
        query is ['(', '@', ..] && query.IndexOf(")/*", StringComparison.Ordinal) is > 0 and var end ? query[(end + 1)..] : query;
}
