using System.Data.Common;
using DbLock;
using DbLock.Drivers;
using DbLock.LocalServers;
using DbLock.Specification;
using Npgsql;

namespace ThirdParty.Tests;

/// <summary>PostgreSQL, asked for the locks of <see cref="HashTextDialect"/>.</summary>
public sealed class HashTextServer : TestServer
{
    private const string Held = """
        select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1
          and ((classid::bigint << 32) | objid::bigint) = hashtextextended(@p0 collate "C", 0)
        """;

    private static readonly Lazy<Task<PostgreSqlServer>> Started = new(PostgreSqlServer.StartAsync);

    public static HashTextServer Instance { get; } = new();

    public override bool HasSeveral => false;

    public override bool HasFencing => false;

    // The dialect sends the name itself, and PostgreSQL has no text with a NUL in it.
    public override bool TakesNul => false;

    public override LockDialect Dialect => LockInterface.Plain.Dialects[0];

    public override string SessionIdSql => "select pg_backend_pid()";

    public static async Task<DbConnection> OpenAsync()
    {
        var connection = new NpgsqlConnection((await Started.Value).ConnectionString);
        await connection.OpenAsync();
        return connection;
    }

    public override Task<DbConnection> OpenObserverAsync() => OpenAsync();

    public override Task<bool> IsHeldAsync(LockKey key) => AskWhetherAsync(Held, key.Name);

    public override Task<bool> IsHeldByAsync(long sessionId, LockKey key) =>
        AskWhetherAsync($"{Held} and pid = @p1", key.Name, (int)sessionId);

    public override Task<bool> IsWaitingAsync(long sessionId) =>
        AskWhetherAsync("select count(*) from pg_locks where not granted and pid = @p0", (int)sessionId);

    public override Task KillAsync(long sessionId) => AskAsync("select pg_terminate_backend(@p0)", (int)sessionId);
}
