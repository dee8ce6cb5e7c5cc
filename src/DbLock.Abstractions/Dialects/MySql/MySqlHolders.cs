using System.Globalization;
using System.Text.Json;

namespace DbLock;

/// <summary>The question who holds user locks, and how its answer is read.</summary>
/// <remarks>
/// Any user may ask for the number of the session that holds a lock. What that session is stands in the list of processes, which shows only
/// their own to users without the right PROCESS.
/// </remarks>
internal static class MySqlHolders
{
    private static readonly TextsByCount<(bool IsMariaDb, bool IsHex), LockSql> Questions = new(
        static (kind, count) => Make(kind.IsMariaDb, kind.IsHex, count));

    /// <summary>Returns the question for names. Its answer is one text of JSON, so that any driver can ask it.</summary>
    public static LockStatement Question(string[] names, bool isMariaDb)
    {
        var isHex = !Array.TrueForAll(names, static name => MySqlTexts.IsPlain(name));
        return new(new LockCommand(
            Questions.For((isMariaDb, isHex), names.Length), Array.ConvertAll(names, name => MySqlTexts.Parameter(name, isHex))));
    }

    /// <summary>Reads who holds which of the keys of the question, in their order.</summary>
    public static LockHolders[] Read(IReadOnlyList<LockKey> keys, object? answer)
    {
        using var json = JsonDocument.Parse(answer as string ?? throw LockCarrier.NotAnswered());
        using var ids = Inner(json.RootElement.GetProperty("ids"));
        using var sessions = Inner(json.RootElement.GetProperty("sessions"));
        using var waiting = Inner(json.RootElement.GetProperty("waiting"));
        var own = json.RootElement.GetProperty("own").GetInt64();
        var known = Items(sessions).ToDictionary(one => one.GetProperty("id").GetInt64());
        string[] queries = [.. Items(waiting).Select(one => one.GetString()).OfType<string>()];
        return [.. keys.Zip(Items(ids), HoldersOf)];

        LockHolders HoldersOf(LockKey key, JsonElement id)
        {
            LockHolder[] holders = id.ValueKind == JsonValueKind.Number ? [Holder(id.GetInt64())] : [];
            return new(key, holders, queries.Count(query => ToldName.ReadComment(query) is { } written && ToldName.Fits(written, key)));
        }

        LockHolder Holder(long id) => new(
            known.TryGetValue(id, out var session) ? Session(session, own) : new MySqlSession { Id = id, IsPartial = true }, false, null);
    }

    // The two engines pass on a part of JSON as itself or as a text.
    private static JsonDocument Inner(JsonElement part) =>
        JsonDocument.Parse(part.ValueKind == JsonValueKind.String ? part.GetString()! : part.GetRawText());

    private static JsonElement.ArrayEnumerator Items(JsonDocument list) =>
        list.RootElement.ValueKind == JsonValueKind.Array ? list.RootElement.EnumerateArray() : default;

    private static MySqlSession Session(JsonElement json, long own)
    {
        var (command, state, age) = (Text("command"), Text("state"), json.GetProperty("age").GetInt64());
        var isIdle = command == "Sleep";
        return new MySqlSession
        {
            Id = json.GetProperty("id").GetInt64(),
            User = Text("user"),
            Client = Text("client"),
            Database = Text("database"),
            State = isIdle || state is null ? command : state,
            IsIdle = isIdle,
            Query = Text("query"),

            // A session that asks again and again whether it holds its locks is never idle for a second.
            StateAge = age > 0 ? TimeSpan.FromSeconds(age) : null,
            IsOwn = json.GetProperty("id").GetInt64() == own,
        };

        string? Text(string name) => json.GetProperty(name).GetString() is { Length: > 0 } text ? text : null;
    }

    private static LockSql Make(bool isMariaDb, bool isHex, int count)
    {
        var whole = isMariaDb ? MySqlTexts.Whole : "";
        var ids = string.Join(", ", Enumerable.Range(0, count).Select(n => $"is_used_lock({MySqlTexts.Name(n, isHex)})"));
        return new LockSql(string.Create(CultureInfo.InvariantCulture, $"""
            {whole}select json_object('ids', u.ids, 'own', connection_id(),
              'sessions', (
                select json_arrayagg(json_object('id', p.id, 'user', p.user, 'client', p.host, 'database', p.db, 'command', p.command,
                  'state', p.state, 'age', p.time, 'query', left(p.info, 1024)))
                from information_schema.processlist as p where json_contains(u.ids, cast(p.id as char))),
              'waiting', (
                select json_arrayagg(left(p.info, 512)) from information_schema.processlist as p
                where p.state = 'User lock' and p.id <> connection_id()))
            from (select json_array({ids}) as ids limit 1) as u
            """));
    }

    private sealed record MySqlSession : LockSession
    {
        internal override string Hidden => "whose activity is hidden from this user (grant PROCESS to see it)";

        public override string ToString() => base.ToString();
    }
}
