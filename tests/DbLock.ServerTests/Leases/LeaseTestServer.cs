using System.Collections.Concurrent;
using System.Data.Common;
using DbLock.Specification;

namespace DbLock.ServerTests;

/// <summary>A table of leases, as an observer sees it: it knows its rows and nothing of DbLock.</summary>
public sealed class LeaseTestServer : TestServer
{
    private static readonly ConcurrentDictionary<string, LeaseTestServer> Servers = [];

    private readonly (string Key, string Now, LockDialect Dialect) _sql;

    private LeaseTestServer(string way) => _sql = way switch
    {
        "Sqlite" => ("key", "(strftime('%s', 'now') * 1000000 + substr(strftime('%f', 'now'), 4) * 1000)", LockDialect.Sqlite),
        "MySqlConnector" => ("`key`", "utc_timestamp(6)", LockDialect.MariaDb),
        _ => ("key", "clock_timestamp()", LockDialect.PostgreSql),
    };

    public override bool HasShared => false;

    public override bool HasTransactionScope => false;

    public override LockDialect Dialect => _sql.Dialect;

    public override string SessionIdSql => throw new NotSupportedException("A lease has no session.");

    /// <summary>Returns the one of an engine.</summary>
    /// <param name="way">Any way to it (<see cref="LeaseServers"/>).</param>
    public static LeaseTestServer Of(string way) => Servers.GetOrAdd(
        way switch { "Sqlite" => way, "MySqlConnector" or "MySql.Data" or "Odbc on MariaDB" => "MySqlConnector", _ => "Npgsql" }, static way => new(way));

    public override async Task<DbConnection> OpenObserverAsync() => await (await LeaseServers.SourceAsync(Observing)).OpenConnectionAsync();

    public override Task<bool> IsHeldAsync(LockKey key) =>
        AskWhetherAsync($"select count(*) from dblock_leases where {_sql.Key} = @p0 and expires > {_sql.Now}", key.Name);

    public override Task<bool> IsHeldByAsync(long sessionId, LockKey key) => throw new NotSupportedException("A lease has no session.");

    public override Task<bool> IsWaitingAsync(long sessionId) => throw new NotSupportedException("Nothing waits in the server.");

    public override Task KillAsync(long sessionId) => throw new NotSupportedException("A lease has no session.");

    /// <summary>Takes all leases away whose names begin so.</summary>
    public async Task StealAsync(string beginning) =>
        await AskAsync($"update dblock_leases set owner = 'thief', expires = {_sql.Now} where {_sql.Key} like @p0", beginning + "%");

    private string Observing => _sql.Dialect.Name switch { "PostgreSQL" => "Npgsql", "SQLite" => "Sqlite", _ => "MySqlConnector" };
}
