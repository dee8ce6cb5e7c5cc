using System.Threading.Channels;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace DbLock.ServerTests;

/// <summary>Elections on every engine, of instances in one process.</summary>
public sealed class LeaderTests
{
    private string Key { get; } = "leader:" + Guid.NewGuid();

    private Channel<ILeader> Elected { get; } = Channel.CreateUnbounded<ILeader>();

    [Theory]
    [InlineData("Npgsql", LockScope.Session)]
    [InlineData("Odbc on PostgreSQL", LockScope.Session)]
    [InlineData("MySqlConnector", LockScope.Session)]
    [InlineData("Npgsql", LockScope.Lease)]
    [InlineData("PgBouncer, transaction", LockScope.Lease)]
    [InlineData("MySqlConnector", LockScope.Lease)]
    [InlineData("Sqlite", LockScope.Lease)]
    public async Task When_the_leader_stops_another_instance_leads(string way, LockScope scope)
    {
        if (scope == LockScope.Lease)
        {
            await LeaseServers.SourceAsync(way);
        }

        List<IHost> instances = [await StartAsync(way, scope), await StartAsync(way, scope)];
        var last = default(ILeader);
        for (var term = 0; term < 10; term++)
        {
            var leader = await Elected.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromMinutes(1));
            Assert.NotSame(last, leader);
            Assert.True(leader.IsLeader);
            var its = instances.Single(instance => instance.Services.GetRequiredService<ILeader>() == leader);
            if (term == 0 && way == "Npgsql")
            {
                var other = instances.Single(instance => instance != its).Services.GetRequiredService<ILeader>();
                var who = scope == LockScope.Lease ? $"process {Environment.ProcessId} of" : "is held by pid";
                await TestServer.UntilAsync(async () => (await other.GetHoldersAsync())?.ToString().Contains(who, StringComparison.Ordinal) is true, "it is told who leads");
            }

            await its.StopAsync();
            its.Dispose();
            instances.Remove(its);
            instances.Add(await StartAsync(way, scope));
            last = leader;
        }

        await Task.WhenAll(instances.Select(instance => instance.StopAsync()));
        instances.ForEach(instance => instance.Dispose());
    }

    private async Task<IHost> StartAsync(string way, LockScope scope)
    {
        var source = await LeaseServers.NewSourceAsync(way);
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton(_ => source).AddSingleton(this).AddDbLock(options => options.Scope = scope).AddLeader<Worker>(Key);
        var host = builder.Build();
        await host.StartAsync();
        return host;
    }

    private sealed class Worker(ILeader leader, LeaderTests test) : BackgroundService
    {
        protected override Task ExecuteAsync(CancellationToken stoppingToken)
        {
            test.Elected.Writer.TryWrite(leader);
            return Task.Delay(Timeout.InfiniteTimeSpan, stoppingToken);
        }
    }
}
