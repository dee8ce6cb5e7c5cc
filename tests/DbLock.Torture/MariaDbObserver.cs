using System.Globalization;
using DbLock.Drivers;
using MySqlConnector;

namespace DbLock.Torture;

/// <summary>Asks MariaDB, whose sessions have the worker's name as their user.</summary>
internal sealed class MariaDbObserver(string connectionString, bool ofLeases) : Observer
{
    private static readonly string Question = string.Create(CultureInfo.InvariantCulture, $"""
        select {string.Join(", ", Target.All.Select(target => $"is_used_lock('{LockDialect.MariaDb.Identify(target.Key)}')"))},
          unix_timestamp() - (select variable_value from information_schema.global_status where variable_name = 'UPTIME');
        select p.id, p.user from information_schema.processlist as p where p.user like '{Campaign.App}%'
        """);

    private const string Leases = $"select token, note, cast(`key` as char) from {LeaseTable.DefaultName} where owner <> '' and expires > utc_timestamp(6)";

    private MySqlConnection? _connection;
    private long _start;

    public override async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _connection, null) is { } connection)
        {
            await connection.DisposeAsync();
        }
    }

    protected override async Task<ServerView> AskOnceAsync()
    {
        _connection ??= await OpenAsync(new MySqlConnection($"{connectionString};Pooling=false;Connection Timeout=5;Default Command Timeout=5"));
        var askedAt = Now;
        await using var command = new MySqlCommand(Question, _connection);
        await using var reader = await command.ExecuteReaderAsync();
        await reader.ReadAsync();
        var holders = Enumerable.Range(0, Target.All.Length).Select(n => reader.IsDBNull(n) ? (long?)null : reader.GetInt64(n)).ToList();

        // A server that was started anew begins to count its sessions anew. Its clock and its uptime are told in whole seconds.
        var start = Convert.ToInt64(reader[Target.All.Length], CultureInfo.InvariantCulture);
        _start = Math.Abs(start - _start) > 2 ? start : _start;
        await reader.NextResultAsync();
        var sessions = new Dictionary<ServerSession, (string, string)>();
        while (await reader.ReadAsync())
        {
            sessions[new ServerSession((int)reader.GetInt64(0), _start)] = (reader.GetString(1), "");
        }

        await reader.CloseAsync();
        if (ofLeases)
        {
            command.CommandText = Leases;
            await using var leases = await command.ExecuteReaderAsync();
            return new ServerView(askedAt, sessions, await ReadLeasesAsync(leases));
        }

        // Who has ended between the two questions holds nothing any more.
        var locks = Target.All.Zip(holders)
            .Where(one => one.Second is not null)
            .Select(one => (Target: one.First, Session: new ServerSession((int)one.Second!.Value, _start)))
            .Where(one => sessions.ContainsKey(one.Session))
            .Select(one => new ServerLock(one.Session, sessions[one.Session].Item1, one.Target.Number, one.Target.IsPair, Shared: false))
            .ToList();
        return new ServerView(askedAt, sessions, locks);
    }
}
