using System.Data.Common;
using DbLock.LocalServers;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;
using ThirdParty;

namespace DbLock.ServerTests;

/// <summary><c>AddDbLock</c> on every engine.</summary>
public sealed class HostingTests
{
    private LockKey Key { get; } = "hosting:" + Guid.NewGuid();

    [Theory, InlineData("Npgsql"), InlineData("AdoNet on PostgreSQL"), InlineData("Odbc on PostgreSQL"), InlineData("MySqlConnector"), InlineData("MySql.Data"), InlineData("Odbc on MariaDB")]
    public async Task An_engine_that_can_carry_a_pool_has_one(string way)
    {
        using var host = await StartAsync(await LeaseServers.NewSourceAsync(way), options => options.Interface = LeaseServers.Interface(way));
        var locks = host.Services.GetRequiredService<ILockSource>();
        await using var held = await locks.AcquireLockAsync(Key);
        Assert.IsType<PooledLock>(held);
        Assert.Null(await locks.TryAcquireLockAsync(Key));
        await host.StopAsync();
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Where_leases_are_asked_for_they_are_taken(string way)
    {
        await LeaseServers.SourceAsync(way);
        using var host = await StartAsync(await LeaseServers.NewSourceAsync(way), options => (options.Scope, options.Interface) = (LockScope.Lease, LeaseServers.Interface(way)));
        await using var held = await host.Services.GetRequiredService<ILockSource>().AcquireLockAsync(Key);
        Assert.IsType<HeldLock>(held);
        Assert.NotNull(held.FencingToken);
        await host.StopAsync();
    }

    [Fact]
    public async Task An_engine_that_has_leases_alone_has_them_unasked()
    {
        await LeaseServers.SourceAsync("Sqlite");
        using var host = await StartAsync(await LeaseServers.NewSourceAsync("Sqlite"), options => options.Lease = TimeSpan.FromSeconds(5));
        await using var held = await host.Services.GetRequiredService<ILockSource>().AcquireLockAsync(Key);
        Assert.NotNull(held.FencingToken);
        await host.StopAsync();
    }

    [Fact]
    public async Task An_engine_that_has_neither_has_a_connection_for_each_lock()
    {
        using var host = await StartAsync(await LeaseServers.NewSourceAsync("Npgsql"), options => options.Interface = LockInterface.Plain);
        var locks = host.Services.GetRequiredService<ILockSource>();
        await using var held = await locks.AcquireLockAsync(Key);
        Assert.IsType<HeldLock>(held);
        Assert.Null(held.FencingToken);
        Assert.Null(await locks.TryAcquireLockAsync(Key));
        await host.StopAsync();
    }

    [Fact]
    public async Task What_the_server_refuses_ends_the_start_and_says_what_to_do()
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connection = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name };
        Assert.Contains("create table", await RefusedAsync(NpgsqlDataSource.Create(connection), options => options.Scope = LockScope.Lease), StringComparison.OrdinalIgnoreCase);
        Assert.Contains("pooler", await RefusedAsync(await LeaseServers.NewSourceAsync("PgBouncer, transaction")), StringComparison.OrdinalIgnoreCase);
        Assert.Contains("28P01", await RefusedAsync(NpgsqlDataSource.Create(connection.ConnectionString + ";Password=wrong")), StringComparison.Ordinal);
        Assert.Contains("no such table", await RefusedAsync(SqliteFactory.Instance.CreateDataSource("Data Source=:memory:")), StringComparison.OrdinalIgnoreCase);
        Assert.Contains("LockOptions.Lease", await RefusedAsync(NpgsqlDataSource.Create(connection), options => (options.Scope, options.Lease) = (LockScope.Lease, TimeSpan.FromDays(11))), StringComparison.Ordinal);

        static async Task<string> RefusedAsync(DbDataSource source, Action<DbLockOptions>? configure = null) =>
            (await Assert.ThrowsAnyAsync<Exception>(() => StartAsync(source, configure))).ToString();
    }

    [Fact]
    public async Task A_server_that_is_not_there_yet_is_logged_and_waited_for()
    {
        var log = new RecordingLogger();
        var server = await PostgreSqlServer.StartPrivateAsync();
        await using var _ = server;
        await server.CrashAsync();
        using var host = await StartAsync(NpgsqlDataSource.Create(server.ConnectionString), null, log);
        Assert.Contains(log.Texts, line => line.Contains("AddDbLock()", StringComparison.Ordinal) && line.Contains("cannot be asked", StringComparison.Ordinal));
        var locks = host.Services.GetRequiredService<ILockSource>();
        await Assert.ThrowsAnyAsync<Exception>(async () => await locks.TryAcquireLockAsync(Key));
        await server.RestartAsync(immediate: true);
        await using var held = await locks.AcquireLockAsync(Key, TimeSpan.FromSeconds(30));
        Assert.IsType<PooledLock>(held);
        await host.StopAsync();
    }

    [Fact]
    public async Task A_network_that_is_silent_at_the_start_is_logged()
    {
        var server = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var network = new SilentRelay(server.Host!, server.Port);
        network.FallSilent();
        (server.Host, server.Port, server.Timeout) = ("127.0.0.1", network.Port, 60);
        var log = new RecordingLogger();
        using var host = await StartAsync(NpgsqlDataSource.Create(server), null, log);
        Assert.Contains(log.Texts, line => line.Contains("cannot be asked", StringComparison.Ordinal));
        network.GoOn();
        await using var held = await host.Services.GetRequiredService<ILockSource>().AcquireLockAsync(Key, TimeSpan.FromSeconds(30));
        await host.StopAsync();
    }

    private static async Task<IHost> StartAsync(DbDataSource source, Action<DbLockOptions>? configure = null, RecordingLogger? log = null)
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton(_ => source);
        builder.Services.AddDbLock(configure);
        if (log is not null)
        {
            builder.Logging.AddProvider(new Provider(log));
        }

        var host = builder.Build();
        await host.StartAsync();
        return host;
    }

    private sealed class Provider(ILogger log) : ILoggerProvider
    {
        public ILogger CreateLogger(string categoryName) => log;

        public void Dispose()
        {
        }
    }
}
