using System.Data.Common;
using DbLock.LocalServers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>The health check.</summary>
public sealed class HealthTests
{
    private LockKey Key { get; } = "health:" + Guid.NewGuid();

    [Theory, InlineData("Npgsql", LockScope.Session), InlineData("Odbc on MariaDB", LockScope.Session), InlineData("Npgsql", LockScope.Lease), InlineData("PgBouncer, transaction", LockScope.Lease), InlineData("Sqlite", LockScope.Session)]
    public async Task It_is_healthy_where_a_lock_can_be_taken_and_tells_how_long_that_took(string way, LockScope scope)
    {
        if (scope == LockScope.Lease || way == "Sqlite")
        {
            await LeaseServers.SourceAsync(way);
        }

        await using var services = Services(await LeaseServers.NewSourceAsync(way), scope);
        await using var held = await services.GetRequiredService<ILockSource>().AcquireLockAsync(Key);
        var health = await HealthyAsync(services);
        Assert.Contains("was taken and let go of", health.Description, StringComparison.Ordinal);
        Assert.True(health.Data["seconds"] is > 0d);
        Assert.Equal((1, 0), ((int)health.Data["held"], (int)health.Data["late"]));
        Assert.Equal(held is PooledLock, health.Data.ContainsKey("answered"));
    }

    /// <summary>All instances look at the same lock, and all who ask at first wait for one connection.</summary>
    [Fact]
    public async Task It_is_healthy_in_many_instances_at_once()
    {
        var instances = await Task.WhenAll(Enumerable.Range(0, 4).Select(async _ => Services(await LeaseServers.NewSourceAsync("Npgsql"), LockScope.Session)));
        var checks = await Task.WhenAll(Enumerable.Range(0, 200).Select(n => CheckAsync(instances[n % 4])));
        Assert.All(checks, health => Assert.True(health.Status is HealthStatus.Healthy or HealthStatus.Degraded, health.Description));
        Assert.All(instances, instance => instance.Dispose());
    }

    [Theory, InlineData(LockScope.Session), InlineData(LockScope.Lease)]
    public async Task It_is_unhealthy_without_a_server_and_healthy_again_with_it(LockScope scope)
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await LeaseTable.Default.CreateAsync(source);
        await using var services = Services(source, scope);
        await HealthyAsync(services);
        await server.CrashAsync();
        var health = await CheckAsync(services);
        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.NotNull(health.Exception);
        await server.RestartAsync(immediate: true);
        await HealthyAsync(services);
    }

    [Fact]
    public async Task It_is_degraded_while_a_lease_is_not_renewed_in_time()
    {
        await LeaseServers.SourceAsync("Npgsql");
        await using var services = Services(await LeaseServers.NewSourceAsync("Npgsql"), LockScope.Lease);
        await using var held = await services.GetRequiredService<ILockSource>().AcquireLockAsync(Key);
        await using (var other = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false"))
        await using (var transaction = await other.BeginTransactionAsync())
        {
            // The renewals wait for this.
            await other.ExecuteAsync($"select * from dblock_leases where key = '{Key}' for update");
            await TestServer.UntilAsync(
                async () => await CheckAsync(services) is { Status: HealthStatus.Degraded, Description: var text } && text!.Contains("1 of 1 leases", StringComparison.Ordinal), "it is degraded");
        }

        await HealthyAsync(services);
        Assert.True(held.IsHeld);
    }

    /// <summary>The pooler gives each statement another session, so that nothing could be trusted.</summary>
    [Fact]
    public async Task It_is_what_the_application_says_where_the_locks_cannot_be_trusted()
    {
        await using var services = Services(await LeaseServers.NewSourceAsync("PgBouncer, transaction"), LockScope.Session, HealthStatus.Degraded);
        var health = await CheckAsync(services);
        Assert.Equal(HealthStatus.Degraded, health.Status);
        Assert.Contains("pooler", health.Description, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task A_database_with_a_name_has_a_check_of_its_own()
    {
        await using var services = new ServiceCollection().AddLogging().AddDbLockInMemory().AddDbLockInMemory("reports")
            .AddHealthChecks().AddDbLock().AddDbLock("reports").Services.BuildServiceProvider();
        var report = await services.GetRequiredService<HealthCheckService>().CheckHealthAsync();
        Assert.Equal(["dblock", "dblock:reports"], report.Entries.Keys.Order());
        Assert.NotEqual(HealthStatus.Unhealthy, report.Status);
    }

    private static ServiceProvider Services(DbDataSource source, LockScope scope, HealthStatus? failure = null) => new ServiceCollection().AddLogging()
        .AddSingleton(_ => source)
        .AddDbLock(options => (options.Scope, options.Lease) = (scope, scope == LockScope.Lease ? TimeSpan.FromSeconds(12) : null))
        .AddHealthChecks().AddDbLock(failureStatus: failure).Services.BuildServiceProvider();

    // A machine that is busy with other tests takes longer than a second at times, which is told as degraded.
    private static async Task<HealthReportEntry> HealthyAsync(ServiceProvider services)
    {
        var health = default(HealthReportEntry);
        await TestServer.UntilAsync(async () => (health = await CheckAsync(services)).Status == HealthStatus.Healthy, "it is healthy");
        return health;
    }

    private static async Task<HealthReportEntry> CheckAsync(ServiceProvider services) =>
        (await services.GetRequiredService<HealthCheckService>().CheckHealthAsync()).Entries["dblock"];
}
