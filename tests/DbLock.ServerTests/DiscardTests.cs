using System.Data.Common;
using System.Data.Odbc;
using DbLock.ServerTests.MariaDb;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A session that may hold what nobody lets go of does not go back to its provider's pool, whose next user would have it.</summary>
public sealed class DiscardTests
{
    private LockKey Key { get; } = "discard:" + Guid.NewGuid();

    public static TheoryData<string, bool> ProvidersAndWays => new()
    {
        { "Npgsql", false }, { "Npgsql", true }, { "AdoNet", false }, { "AdoNet", true }, { "Odbc", true },
        { "MySqlConnector", false }, { "MySqlConnector", true }, { "MySql.Data", true }, { "MariaDB over ODBC", true },
    };

    [Theory, MemberData(nameof(ProvidersAndWays))]
    public Task A_connection_that_is_closed_under_its_lock_lets_go_of_it(string provider, bool fromSource) =>
        AssertLetsGoAsync(provider, fromSource, (_, connection) => connection.CloseAsync());

    [Theory, MemberData(nameof(ProvidersAndWays))]
    public Task A_session_that_is_given_up_lets_go_of_its_lock(string provider, bool fromSource) => AssertLetsGoAsync(provider, fromSource, (@lock, connection) =>
    {
        @lock.Interface.Driver.Discard(connection);
        return Task.CompletedTask;
    });

    /// <summary>As where a scope of the program ends, with its connection, while a lock is waited for in it.</summary>
    [Theory]
    [InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true), InlineData("MySqlConnector", true)]
    public async Task A_connection_that_is_closed_under_a_wait_leaves_no_lock(string provider, bool async)
    {
        await using var source = await SourceAsync(provider);
        await using var holding = await source.OpenConnectionAsync();
        var holder = new Lock(holding, Key, Interface(provider));
        var connection = await source.OpenConnectionAsync();
        var session = await Server(provider).SessionIdAsync(connection);
        Assert.True(await holder.AcquireAsync());
        var waiting = new Lock(connection, Key, Interface(provider)).Start(async, TimeSpan.FromSeconds(30));
        await Server(provider).UntilWaitingAsync(session);
        var closing = Task.Factory.StartNew(connection.Close, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        await Task.WhenAny(closing, Task.Delay(100));

        // Whether the close has begun by now or not, nothing may stay.
        Assert.True(await holder.ReleaseAsync());
        await Record.ExceptionAsync(() => waiting);
        await Server(provider).UntilFreeAsync(Key);
        await Record.ExceptionAsync(() => closing.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.True(closing.IsCompleted);
    }

    private static TestServer Server(string provider) =>
        provider.StartsWith('M') ? MariaDbTestServer.Instance : PostgreSqlTestServer.Instance;

    private static LockInterface? Interface(string provider) => provider is "Npgsql" or "AdoNet" ? Drivers.Interface(provider) : null;

    // Each has a pool of its own, which does not clean what comes back.
    private static async Task<DbDataSource> SourceAsync(string provider) => provider switch
    {
        "Odbc" => OdbcFactory.Instance.CreateDataSource((await PostgreSqlTestServer.ServerAsync).OdbcConnectionString),
        "MySqlConnector" => new MySqlConnector.MySqlDataSource($"{(await MariaDbTestServer.ServerAsync).ConnectionString};Application Name={Guid.NewGuid()};Connection Reset=false;Persist Security Info=true"),
        "MySql.Data" or "MariaDB over ODBC" => await MariaDbDrivers.CreateSourceAsync(provider.Split(' ')[^1].Replace("ODBC", "Odbc", StringComparison.Ordinal)),
        _ => NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Application Name={Guid.NewGuid()};No Reset On Close=true;Persist Security Info=true"),
    };

    private static DbConnection Connect(DbDataSource source, string provider, bool fromSource) => (provider, fromSource) switch
    {
        (_, true) => source.CreateConnection(),
        ("MySqlConnector", false) => new MySqlConnector.MySqlConnection(source.ConnectionString),
        _ => new NpgsqlConnection(source.ConnectionString),
    };

    private async Task AssertLetsGoAsync(string provider, bool fromSource, Func<Lock, DbConnection, Task> end)
    {
        await using var source = await SourceAsync(provider);
        await using var connection = Connect(source, provider, fromSource);
        await connection.OpenAsync();
        var session = await Server(provider).SessionIdAsync(connection);
        var @lock = new Lock(connection, Key, Interface(provider));
        Assert.True(await @lock.AcquireAsync(block: false));
        await end(@lock, connection);
        await Server(provider).UntilFreeAsync(Key);

        // Its pool gives out another session.
        await connection.OpenAsync();
        Assert.NotEqual(session, await Server(provider).SessionIdAsync(connection));
    }
}
