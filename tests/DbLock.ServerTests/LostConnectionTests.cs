using System.Data;
using System.Data.Common;

namespace DbLock.ServerTests;

/// <summary>
/// What each provider says of a session that was ended by an administrator, as the table of docs/drivers.md has it: the codes, and the state of the
/// connection after them.
/// </summary>
public sealed class LostConnectionTests
{
    [Theory]
    [InlineData("Npgsql", false, "57P01 0"), InlineData("Npgsql", true, "57P01 0")]
    [InlineData("psqlODBC", false, "57P01 35"), InlineData("psqlODBC", true, "57P01 35")]
    [InlineData("MySqlConnector", true, "08S01 0")]
    [InlineData("MySql.Data", false, "08S01 0"), InlineData("MySql.Data", true, "08S01 0")]

    // While it does not wait, it fails to read or to write, whichever meets the end first.
    [InlineData("MariaDB ODBC", false, "08S01 2013", "HY000 5014"), InlineData("MariaDB ODBC", true, "08S01 2013")]
    public async Task A_session_that_was_ended_is_told_by_its_codes(string provider, bool waits, params string[] codes)
    {
        LockKey key = "lost:" + Guid.NewGuid();
        TestServer server = provider is "Npgsql" or "psqlODBC" ? PostgreSqlTestServer.Instance : MariaDbTestServer.Instance;
        await using var holder = await OpenAsync(provider);
        await using var connection = await OpenAsync(provider);
        var session = await server.SessionIdAsync(connection);
        Exception? error;
        if (waits)
        {
            await using var held = new Lock(holder, key);
            Assert.True(await held.AcquireAsync(block: false));
            var waiting = new Lock(connection, key).AcquireAsync().AsTask();
            await server.UntilWaitingAsync(session);
            await server.KillAsync(session);
            error = await Record.ExceptionAsync(() => waiting);
        }
        else
        {
            await using var held = new Lock(connection, key);
            Assert.True(await held.AcquireAsync(block: false));
            await server.KillAsync(session);
            await server.UntilFreeAsync(key);
            error = await Record.ExceptionAsync(() => held.ReleaseAsync().AsTask());
            Assert.IsType<LockLostException>(error);
        }

        var driver = LockInterface.For(connection).Driver;
        var read = driver.Read(waits ? error! : error!.InnerException!);
        Assert.Contains($"{read.SqlState} {read.Number}", codes);
        Assert.Equal(LockOutcome.ConnectionLost, server.Dialect.Read(read));
        Assert.NotEqual(ConnectionState.Open, connection.State);
    }

    // MySqlConnector 2.6.2 then throws a NullReferenceException.
    [Fact]
    public async Task A_provider_that_fails_without_a_code_is_told_by_its_closed_connection()
    {
        await using var connection = await OpenAsync("MySqlConnector");
        await MariaDbTestServer.Instance.KillAsync(await MariaDbTestServer.Instance.SessionIdAsync(connection));
        await TestServer.UntilAsync(
            async () => await Record.ExceptionAsync(() => new Lock(connection, "lost:" + Guid.NewGuid()).AcquireAsync(block: false).AsTask())
                is LockException or DbException,
            "the loss is noticed");
        Assert.NotEqual(ConnectionState.Open, connection.State);
    }

    private static async Task<DbConnection> OpenAsync(string provider) => provider switch
    {
        "Npgsql" => await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false"),
        "psqlODBC" => await PostgreSqlTestServer.OpenOdbcAsync(),
        "MySqlConnector" => await MariaDbTestServer.OpenAsync<MySqlConnector.MySqlConnection>(pooled: false),
        "MySql.Data" => await MariaDbTestServer.OpenAsync<MySql.Data.MySqlClient.MySqlConnection>(pooled: false),
        _ => await MariaDbTestServer.OpenAsync(),
    };
}
