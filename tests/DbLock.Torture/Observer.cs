using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace DbLock.Torture;

/// <summary>Asks the server itself what is held, past the library and past every fault of the network.</summary>
internal sealed class Observer(string connectionString) : IAsyncDisposable
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

    private readonly System.Threading.Lock _gate = new();
    private List<TaskCompletionSource<ServerView?>> _asked = [];
    private NpgsqlConnection? _connection;
    private bool _isAsking;

    /// <summary>Gets the process of its own session; null when there is none at this moment.</summary>
    public int? ProcessId => _connection?.ProcessID;

    public static long Now => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1000);

    /// <summary>Asks; those who ask at the same time share a question that began after they asked. Null while the server does not answer.</summary>
    public Task<ServerView?> LookAsync()
    {
        var answer = new TaskCompletionSource<ServerView?>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            _asked.Add(answer);
            if (!_isAsking)
            {
                _isAsking = true;
                _ = Task.Run(AskAsync);
            }
        }

        return answer.Task;
    }

    public async ValueTask DisposeAsync()
    {
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }
    }

    private async Task AskAsync()
    {
        while (true)
        {
            List<TaskCompletionSource<ServerView?>> asked;
            lock (_gate)
            {
                if (_asked.Count == 0)
                {
                    _isAsking = false;
                    return;
                }

                (asked, _asked) = (_asked, []);
            }

            ServerView? view = null;
            try
            {
                view = await AskOnceAsync();
            }
            catch (Exception e) when (e is NpgsqlException or TimeoutException or InvalidOperationException or IOException)
            {
                if (_connection is not null)
                {
                    await _connection.DisposeAsync();
                    _connection = null;
                }
            }

            asked.ForEach(answer => answer.SetResult(view));
        }
    }

    private async Task<ServerView> AskOnceAsync()
    {
        if (_connection is null)
        {
            var connection = new NpgsqlConnection($"{connectionString};Pooling=false;Timeout=5;Command Timeout=5");
            try
            {
                await connection.OpenAsync();
                _connection = connection;
            }
            finally
            {
                if (_connection is null)
                {
                    await connection.DisposeAsync();
                }
            }
        }

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

        return new ServerView(askedAt, sessions, locks);
    }
}
