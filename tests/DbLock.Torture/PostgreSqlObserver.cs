using System.Globalization;
using Npgsql;

namespace DbLock.Torture;

/// <summary>Asks PostgreSQL.</summary>
internal sealed class PostgreSqlObserver(string connectionString, bool ofLeases) : Observer
{
    // Not the key that a pool holds while it listens. An application without the lock that is told after it.
    private static readonly string Question = string.Create(CultureInfo.InvariantCulture, $"""
        select a.pid, (extract(epoch from a.backend_start) * 1000000)::bigint, pg_catalog.split_part(a.application_name, ' [', 1),
          coalesce(a.state, ''),
          (l.classid::bigint << 32) | l.objid::bigint, l.objsubid, l.mode
        from pg_stat_activity as a
        left join pg_locks as l on l.pid = a.pid and l.locktype = 'advisory' and l.granted and ((l.classid::bigint << 32) | l.objid::bigint) <> {LockKey.From("DbLock.LockPool listens").Number}
        where a.usename = '{Campaign.Role}' and a.application_name like '{Campaign.App}%'
        """);

    private const string Leases = $"select token, note, key from {LeaseTable.DefaultName} where owner <> '' and expires > clock_timestamp()";

    private NpgsqlConnection? _connection;

    /// <summary>Gets the process of its own session; null when there is none at this moment.</summary>
    public int? ProcessId => _connection?.ProcessID;

    public override async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _connection, null) is { } connection)
        {
            await connection.DisposeAsync();
        }
    }

    protected override async Task<ServerView> AskOnceAsync()
    {
        _connection ??= await OpenAsync(new NpgsqlConnection($"{connectionString};Pooling=false;Timeout=5;Command Timeout=5"));
        var sessions = new Dictionary<ServerSession, (string, string)>();
        var locks = new List<ServerLock>();
        var askedAt = Now;
        await using var command = new NpgsqlCommand(Question, _connection);
        await using var reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            var session = new ServerSession(reader.GetInt32(0), reader.GetInt64(1));
            sessions[session] = (reader.GetString(2), reader.GetString(3));
            if (!await reader.IsDBNullAsync(4))
            {
                locks.Add(new ServerLock(session, reader.GetString(2), reader.GetInt64(4), reader.GetInt16(5) == 2, reader.GetString(6) == "ShareLock"));
            }
        }

        await reader.CloseAsync();
        if (ofLeases)
        {
            command.CommandText = Leases;
            await using var leases = await command.ExecuteReaderAsync();
            locks = await ReadLeasesAsync(leases);
        }

        return new ServerView(askedAt, sessions, locks);
    }
}
