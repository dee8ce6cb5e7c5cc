using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>The sessions of one test on a PostgreSQL server, all ended with it.</summary>
internal sealed class Sessions(PostgreSqlServer? server = null) : IAsyncDisposable
{
    private readonly List<NpgsqlConnection> _opened = [];
    private readonly List<Task> _waits = [];

    /// <summary>Gets the roles that are dropped when the sessions have ended.</summary>
    public List<string> Roles { get; } = [];

    public async Task<NpgsqlConnection> OpenAsync(string more = "")
    {
        var connection = new NpgsqlConnection((server ?? await PostgreSqlTestServer.ServerAsync).ConnectionString + ";Pooling=false;" + more);
        _opened.Add(connection);
        await connection.OpenAsync();
        return connection;
    }

    /// <summary>Opens a session and has it run something that waits for a lock; returns when the server shows it waiting.</summary>
    public async Task<NpgsqlConnection> OpenWaitingAsync(string sql, string more = "")
    {
        var connection = await OpenAsync(more);
        await StartWaitingAsync(connection, sql);
        return connection;
    }

    /// <summary>Has a session run something that waits for a lock; returns when the server shows it waiting.</summary>
    public async Task<Task> StartWaitingAsync(NpgsqlConnection connection, string sql)
    {
        await using var observer = new NpgsqlConnection((server ?? await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await observer.OpenAsync();
        var waiting = connection.ExecuteAsync(sql);
        _waits.Add(waiting);
        await TestServer.UntilAsync(
            async () => waiting.IsCompleted || (bool)(await observer.ExecuteAsync($"select exists (select from pg_locks where not granted and pid = {connection.ProcessID})"))!,
            $"{connection.ProcessID} waits");
        if (waiting.IsCompleted)
        {
            await waiting;
            Assert.Fail($"It did not wait: {sql}");
        }

        return waiting;
    }

    /// <summary>Cancels what a session runs.</summary>
    public async Task CancelAsync(NpgsqlConnection connection)
    {
        await using var administrator = new NpgsqlConnection((server ?? await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await administrator.OpenAsync();
        await administrator.ExecuteAsync($"select pg_cancel_backend({connection.ProcessID})");
    }

    public async ValueTask DisposeAsync()
    {
        await using (var administrator = new NpgsqlConnection((server ?? await PostgreSqlTestServer.ServerAsync).ConnectionString))
        {
            await administrator.OpenAsync();
            foreach (var connection in _opened.Where(connection => connection.FullState.HasFlag(System.Data.ConnectionState.Open)))
            {
                await administrator.ExecuteAsync($"select pg_terminate_backend({connection.ProcessID})");
            }
        }

        foreach (var waiting in _waits)
        {
            await Record.ExceptionAsync(() => waiting);
        }

        foreach (var connection in _opened)
        {
            await connection.DisposeAsync();
        }

        foreach (var role in Roles)
        {
            await using var administrator = new NpgsqlConnection((server ?? await PostgreSqlTestServer.ServerAsync).ConnectionString);
            await administrator.OpenAsync();
            await administrator.ExecuteAsync($"drop role {role}");
        }
    }
}
