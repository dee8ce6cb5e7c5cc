using System.Data.Common;
using System.Data.Odbc;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

public sealed class PostgreSqlTestServer : TestServer
{
    private const string IsKey = """
        locktype = 'advisory' and granted and classid::bigint = @p0 and objid::bigint = @p1 and objsubid = @p2
        and database = (select oid from pg_database where datname = current_database())
        """;

    // One server for the whole run; its watchdog ends it with this process.
    private static readonly Lazy<Task<PostgreSqlServer>> Started = new(PostgreSqlServer.StartAsync);

    public static PostgreSqlTestServer Instance { get; } = new();

    public static Task<PostgreSqlServer> ServerAsync => Started.Value;

    public override LockDialect Dialect => LockDialect.PostgreSql;

    public override string SessionIdSql => "select pg_backend_pid()";

    public static async Task<NpgsqlConnection> OpenNpgsqlAsync(string more = "")
    {
        var connection = new NpgsqlConnection((await ServerAsync).ConnectionString + ";" + more);
        await connection.OpenAsync();
        return connection;
    }

    public static async Task<OdbcConnection> OpenOdbcAsync(string database = "postgres")
    {
        var builder = new DbConnectionStringBuilder(useOdbcRules: true) { ConnectionString = (await ServerAsync).OdbcConnectionString, ["Database"] = database };
        var connection = new OdbcConnection(builder.ConnectionString);
        connection.Open();
        return connection;
    }

    /// <summary>Creates an empty database of its own for a test, which is dropped with all its sessions when it is disposed.</summary>
    public static async Task<TestDatabase> CreateDatabaseAsync()
    {
        var database = new TestDatabase("test_" + Guid.NewGuid().ToString("N"));
        await using var administrator = await OpenNpgsqlAsync();
        await administrator.ExecuteAsync($"create database {database.Name} template template0");
        return database;
    }

    public override async Task<DbConnection> OpenObserverAsync() => await OpenNpgsqlAsync("Pooling=false");

    public override Task<bool> IsHeldAsync(LockKey key) => AskWhetherAsync($"select count(*) from pg_locks where {IsKey}", Columns(key));

    public override Task<bool> IsHeldByAsync(long sessionId, LockKey key) =>
        AskWhetherAsync($"select count(*) from pg_locks where {IsKey} and pid = @p3", [.. Columns(key), (int)sessionId]);

    /// <summary>Says how many advisory locks a session holds or waits for.</summary>
    public async Task<long> CountLocksAsync(long sessionId) =>
        (long)(await AskAsync("select count(*) from pg_locks where locktype = 'advisory' and pid = @p0", (int)sessionId))!;

    public override Task<bool> IsWaitingAsync(long sessionId) => AskWhetherAsync("select count(*) from pg_locks where not granted and pid = @p0", (int)sessionId);

    public override Task KillAsync(long sessionId) => AskAsync("select pg_terminate_backend(@p0)", (int)sessionId);

    public Task KillHolderAsync(LockKey key) => AskAsync($"select count(pg_terminate_backend(pid)) from pg_locks where {IsKey}", Columns(key));

    public Task CancelAsync(long sessionId) => AskAsync("select pg_cancel_backend(@p0)", (int)sessionId);

    public Task<bool> IsRunningAsync(long sessionId, string sql) =>
        AskWhetherAsync("select count(*) from pg_stat_activity where pid = @p0 and state = 'active' and strpos(query, @p1) > 0", (int)sessionId, sql);

    /// <summary>A database of one test.</summary>
    public sealed record TestDatabase(string Name) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await using var administrator = await OpenNpgsqlAsync();
            await administrator.ExecuteAsync($"drop database if exists {Name} with (force)");
        }
    }

    /// <summary>Returns classid, objid and objsubid.</summary>
    private static object[] Columns(LockKey key)
    {
        var (classId, objId, objSubId) = key.ToPgLocks();
        return [(long)classId, (long)objId, objSubId];
    }
}
