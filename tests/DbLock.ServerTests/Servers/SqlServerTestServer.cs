using System.Data.Common;
using System.Data.Odbc;
using System.Globalization;
using DbLock.LocalServers;
using Microsoft.Data.SqlClient;

namespace DbLock.ServerTests;

public sealed class SqlServerTestServer : TestServer
{
    public static SqlServerTestServer Instance { get; } = new();

    public override TimeSpan BriefWait => TimeSpan.FromMilliseconds(10);

    public override LockDialect Dialect => LockDialect.SqlServer;

    public override string SessionIdSql => "select cast(@@spid as int)";

    public static async Task<DbConnection> OpenSqlClientAsync()
    {
        SkipWithoutServer();
        var connection = new SqlConnection(SqlServer.ConnectionString);
        await connection.OpenAsync();
        return connection;
    }

    public static DbConnection OpenOdbc()
    {
        SkipWithoutServer();
        var connection = new OdbcConnection(SqlServer.OdbcConnectionString!);
        connection.Open();
        return connection;
    }

    public override Task<DbConnection> OpenObserverAsync() => OpenSqlClientAsync();

    // The observer holds nothing, so what it could not get is somebody else's.
    public override Task<bool> IsHeldAsync(LockKey key) =>
        AskWhetherAsync("select 1 - applock_test('public', @p0, 'Exclusive', 'Session')", LockDialect.SqlServer.Identify(key));

    // The server shows the principal, the first 32 characters of the name and a hash: 0:[nightly-report]:(1a2b3c4d).
    public override Task<bool> IsHeldByAsync(long sessionId, LockKey key) => AskWhetherAsync(
        """
        select count(*) from sys.dm_tran_locks
        where resource_type = 'APPLICATION' and request_status = 'GRANT' and request_session_id = @p0 and resource_database_id = db_id()
          and charindex('0:[' + left(@p1, 32) + ']:(', resource_description) = 1
        """,
        (int)sessionId,
        LockDialect.SqlServer.Identify(key));

    public override Task<bool> IsWaitingAsync(long sessionId) => AskWhetherAsync(
        "select count(*) from sys.dm_tran_locks where resource_type = 'APPLICATION' and request_status in ('WAIT', 'CONVERT') and request_session_id = @p0", (int)sessionId);

    public override Task KillAsync(long sessionId) => AskAsync($"kill {sessionId.ToString(CultureInfo.InvariantCulture)}");

#pragma warning disable RS0030 // The only server that may be missing.
    private static void SkipWithoutServer() => Assert.SkipWhen(SqlServer.ConnectionString is null, SqlServer.SkipReason);
#pragma warning restore RS0030
}
