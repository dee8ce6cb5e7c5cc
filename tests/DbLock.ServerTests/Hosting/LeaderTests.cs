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

    [Fact]
    public async Task A_service_that_does_not_stop_keeps_the_lock_and_what_it_works_with_though_its_host_is_disposed()
    {
        var work = new StubbornWork();
        var server = await PostgreSqlTestServer.ServerAsync;
        IHost Build()
        {
            var builder = Host.CreateEmptyApplicationBuilder(null);
            builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromMilliseconds(200))
                .AddSingleton<System.Data.Common.DbDataSource>(_ => Npgsql.NpgsqlDataSource.Create(server.ConnectionString))
                .AddSingleton(work).AddScoped<Scoped>().AddDbLock().AddLeader<Quiet>(Key + "well").AddLeader<Stubborn>(Key);
            return builder.Build();
        }

        var first = Build();
        await first.StartAsync();
        await TestServer.UntilAsync(() => Task.FromResult(work.Running.Count == 1), "it leads");
        var well = first.Services.GetRequiredKeyedService<ILeader>(Key + "well");
        await TestServer.UntilAsync(() => Task.FromResult(well.IsLeader), "the other one leads, too");
        await first.StopAsync();
        await ((IAsyncDisposable)first).DisposeAsync();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.False(work.Running[0].Scoped.IsDisposed);

        // Who stops in time has let go, whatever the other one did.
        using var second = Build();
        await second.StartAsync();
        await TestServer.UntilAsync(() => Task.FromResult(second.Services.GetRequiredKeyedService<ILeader>(Key + "well").IsLeader), "the well-behaved one leads elsewhere");
        Assert.True(await PostgreSqlTestServer.Instance.IsHeldAsync(Key));
        Assert.Single(work.Running);
        await second.StopAsync();
        work.Over.SetResult();
    }

    [Theory, InlineData("waits for its token"), InlineData("returns at its token"), InlineData("never stops"), InlineData("never starts")]
    public async Task A_service_of_which_nothing_shows_whether_it_runs_keeps_the_lock_when_its_stop_does_not_end_in_time(string how)
    {
        var work = new PlainWork(how);
        var server = await PostgreSqlTestServer.ServerAsync;
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromMilliseconds(200))
            .AddSingleton<System.Data.Common.DbDataSource>(_ => Npgsql.NpgsqlDataSource.Create(server.ConnectionString))
            .AddSingleton(work).AddDbLock().AddLeader<Plain>(Key);
        var host = builder.Build();
        await host.StartAsync();
        await work.Started.Task.WaitAsync(TimeSpan.FromSeconds(60));
        await host.StopAsync();
        await ((IAsyncDisposable)host).DisposeAsync();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        await using var other = Npgsql.NpgsqlDataSource.Create(server.ConnectionString);
        Assert.Null(await other.TryAcquireLockAsync(Key, TimeSpan.FromMilliseconds(500)));
        work.Over.SetResult();
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

    private sealed class Scoped : IDisposable
    {
        public bool IsDisposed { get; private set; }

        public void Dispose() => IsDisposed = true;
    }

    private sealed class Quiet : BackgroundService
    {
        protected override Task ExecuteAsync(CancellationToken stoppingToken) => Task.Delay(Timeout.InfiniteTimeSpan, stoppingToken);
    }

    private sealed class PlainWork(string how)
    {
        public string How => how;

        public TaskCompletionSource Started { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource Over { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    private sealed class Plain(PlainWork work) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken)
        {
            work.Started.SetResult();
            return work.How == "never starts" ? work.Over.Task : Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => work.How switch
        {
            "waits for its token" => work.Over.Task.WaitAsync(cancellationToken),
            "returns at its token" => Task.WhenAny(work.Over.Task, Task.Delay(Timeout.InfiniteTimeSpan, cancellationToken)),
            _ => work.Over.Task,
        };
    }

    private sealed class StubbornWork
    {
        public List<Stubborn> Running { get; } = [];

        public TaskCompletionSource Over { get; } = new();
    }

    private sealed class Stubborn(Scoped scoped, StubbornWork work) : BackgroundService
    {
        public Scoped Scoped => scoped;

        protected override Task ExecuteAsync(CancellationToken stoppingToken)
        {
            work.Running.Add(this);
            return work.Over.Task;
        }
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
