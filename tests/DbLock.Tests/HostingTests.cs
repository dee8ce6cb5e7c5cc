using System.Data.Common;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace DbLock.Tests;

public sealed class HostingTests
{
    private readonly InMemoryLockServer _server = new();

    [Fact]
    public async Task An_application_has_a_pool_on_its_data_source()
    {
        PooledLock held;
        await using (var services = new ServiceCollection().AddSingleton(_server.CreateDataSource()).AddDbLock().AddDbLock().BuildServiceProvider())
        {
            var locks = services.GetRequiredService<LockPool>();
            Assert.Same(locks, services.GetRequiredService<LockPool>());
            held = await locks.AcquireLockAsync("k");
            Assert.True(_server.IsHeld("k"));

            var source = services.GetRequiredService<ILockSource>();
            Assert.Null(await source.TryAcquireLockAsync("k"));
            await Assert.ThrowsAsync<LockNotAcquiredException>(async () => await source.AcquireLockAsync("k", TimeSpan.FromMilliseconds(1)));
            await using var other = await source.AcquireLockAsync("other");
            Assert.IsType<PooledLock>(other);
        }

        Assert.False(_server.IsHeld("k"));
        Assert.True(held.Lost.IsCancellationRequested);
    }

    [Fact]
    public async Task An_opening_that_was_cancelled_by_itself_is_made_anew_for_the_next_lock()
    {
        await using var services = new ServiceCollection()
            .AddSingleton<DbDataSource>(new CancelledOnce(_server.CreateDataSource())).AddDbLock().BuildServiceProvider();
        var source = services.GetRequiredService<ILockSource>();
        Assert.IsType<TaskCanceledException>((await Assert.ThrowsAsync<LockException>(async () => await source.AcquireLockAsync("k"))).InnerException);
        await using var held = await source.AcquireLockAsync("k");
        Assert.True(_server.IsHeld("k"));
    }

    [Fact]
    public async Task Several_databases_have_names()
    {
        var other = new InMemoryLockServer();
        await using var services = new ServiceCollection()
            .AddSingleton(_server.CreateDataSource()).AddDbLock()
            .AddKeyedSingleton("reports", other.CreateDataSource()).AddDbLock("reports", options => options.TelemetryKey = true)
            .BuildServiceProvider();
        await using var one = await services.GetRequiredService<LockPool>().AcquireLockAsync("k");
        await using var two = await services.GetRequiredKeyedService<LockPool>("reports").TryAcquireLockAsync("k");
        Assert.NotNull(two);
        Assert.Null(await services.GetRequiredKeyedService<ILockSource>("reports").TryAcquireLockAsync("k"));
        Assert.NotNull(await services.GetRequiredKeyedService<ILockSource>("reports").TryAcquireLockAsync("other"));
        Assert.True(other.IsHeld("k"));
        Assert.False(Options(services, "").TelemetryKey);
        Assert.True(Options(services, "reports").TelemetryKey);
    }

    [Fact]
    public async Task Options_come_from_the_configuration()
    {
        var configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["Locks:TrustPooler"] = "true",
            ["Locks:Scope"] = "Lease",
            ["Locks:Lease"] = "00:00:10",
            ["Locks:ClockMargin"] = "00:00:02",
            ["Locks:LeaseTable:Name"] = "leases",
            ["Locks:LeaseTable:Schema"] = "ops",
            ["Typo:TrustPoler"] = "true",
            ["NoBoolean:TelemetryKey"] = "maybe",
        }).Build();
        await using var services = new ServiceCollection()
            .AddSingleton(_server.CreateDataSource())
            .AddDbLock(configuration.GetSection("Locks"))
            .AddDbLock("typo", configuration.GetSection("Typo"))
            .AddDbLock("no boolean", configuration.GetSection("NoBoolean"))
            .AddDbLock("nothing", configuration.GetSection("Nothing"))
            .BuildServiceProvider();
        Assert.True(Options(services, "").TrustPooler);
        Assert.Equal(
            (LockScope.Lease, TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(2), new LeaseTable("leases", "ops")),
            (Options(services, "").Scope, Options(services, "").Lease, Options(services, "").ClockMargin, Options(services, "").LeaseTable));
        Assert.Contains("ILockSource", Assert.Throws<InvalidOperationException>(() => services.GetRequiredService<LockPool>()).Message, StringComparison.Ordinal);
        Assert.False(Options(services, "nothing").TrustPooler);
        Assert.Contains("TrustPoler", Assert.Throws<InvalidOperationException>(() => Options(services, "typo")).Message, StringComparison.Ordinal);
        Assert.Contains("maybe", Assert.Throws<InvalidOperationException>(() => Options(services, "no boolean")).ToString(), StringComparison.Ordinal);

        // The host asks at its start.
        Assert.Throws<InvalidOperationException>(() => services.GetRequiredService<IStartupValidator>().Validate());
    }

    [Theory, InlineData(null), InlineData("reports")]
    public async Task A_data_source_that_is_missing_is_said(string? name)
    {
        var services = new ServiceCollection();
        await using var provider = (name is null ? services.AddDbLock() : services.AddDbLock(name)).BuildServiceProvider();
        var error = Assert.Throws<InvalidOperationException>(() => name is null ? provider.GetRequiredService<LockPool>() : provider.GetRequiredKeyedService<LockPool>(name));
        Assert.Contains(name is null ? "AddSingleton<DbDataSource>(NpgsqlDataSource" : "AddKeyedSingleton<DbDataSource>(\"reports\", NpgsqlDataSource", error.Message, StringComparison.Ordinal);
    }

    /// <summary>A host looks before anything of the application has begun.</summary>
    [Fact]
    public async Task What_is_wrong_is_told_at_the_start()
    {
        var isBegun = false;
        using var noDataSource = Host(services => services.AddDbLock("reports"));
        Assert.Contains("\"reports\"", (await Assert.ThrowsAsync<InvalidOperationException>(() => noDataSource.StartAsync())).Message, StringComparison.Ordinal);
        using var scope = Host(services => services.AddSingleton(_server.CreateDataSource()).AddDbLock(options => options.Scope = LockScope.Transaction));
        await Assert.ThrowsAsync<ArgumentException>(() => scope.StartAsync());
        using var lease = Host(services => services.AddSingleton(_server.CreateDataSource()).AddDbLock(options => options.Lease = TimeSpan.FromMinutes(1)));
        Assert.Contains("Scope", (await Assert.ThrowsAsync<LockException>(() => lease.StartAsync())).Message, StringComparison.Ordinal);
        using var noLeases = Host(services => services.AddSingleton(_server.CreateDataSource()).AddDbLock(options => options.Scope = LockScope.Lease));
        Assert.IsType<NotSupportedException>((await Assert.ThrowsAsync<LockException>(() => noLeases.StartAsync())).InnerException);
        using var valueAlone = Host(services => services.AddSingleton(_server.CreateDataSource())
            .AddDbLock(new ConfigurationBuilder().AddInMemoryCollection([new("DbLock", "Lease")]).Build().GetSection("DbLock")));
        Assert.Contains("'DbLock:Scope'", (await Assert.ThrowsAsync<InvalidOperationException>(() => valueAlone.StartAsync())).Message, StringComparison.Ordinal);
        foreach (var (setting, value, told) in new[]
        {
            ("TrustPoler", "true", "TrustPoler"), ("LeaseTable", "mine", "'LeaseTable:Name'"), ("Interface", "Npgsql", "in code"), ("Dialect:Name", "MySql", "in code"), ("Scope", "7", "Session or Lease"),
        })
        {
            using var configured = Host(services => services.AddSingleton(_server.CreateDataSource())
                .AddDbLock(new ConfigurationBuilder().AddInMemoryCollection([new(setting, value)]).Build()));
            Assert.Contains(told, (await Assert.ThrowsAnyAsync<Exception>(() => configured.StartAsync())).Message, StringComparison.Ordinal);
        }

        Assert.False(isBegun);

        using var right = Host(services => services.AddSingleton(_server.CreateDataSource()).AddDbLock());
        await right.StartAsync();
        Assert.True(isBegun);
        await right.StopAsync();

        IHost Host(Action<IServiceCollection> add)
        {
            var builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(null);
            builder.Services.AddHostedService(_ => new Begun(() => isBegun = true));
            add(builder.Services);
            return builder.Build();
        }
    }

    [Fact]
    public async Task Tests_have_locks_without_a_server_whatever_the_application_has()
    {
        var services = new ServiceCollection().AddSingleton<DbDataSource>(_ => throw new InvalidOperationException("There is no server."))
            .AddDbLock(options => (options.Scope, options.Lease, options.LeaseTable) = (LockScope.Lease, TimeSpan.FromMinutes(1), new LeaseTable("leases")))
            .AddDbLockInMemory()
            .AddDbLockInMemory("reports");
        await using var provider = services.BuildServiceProvider();
        await using var held = await provider.GetRequiredService<ILockSource>().AcquireLockAsync("k");
        Assert.NotNull(held.FencingToken);
        Assert.True(provider.GetRequiredService<InMemoryLockServer>().IsHeld("k"));
        await using var report = await provider.GetRequiredKeyedService<ILockSource>("reports").TryAcquireLockAsync("k", shared: true);
        Assert.True(provider.GetRequiredKeyedService<InMemoryLockServer>("reports").IsHeld("k"));
    }

    [Fact]
    public async Task It_logs_where_the_application_logs()
    {
        using var log = new RecordingProvider();
        var services = new ServiceCollection().AddLogging(logging => logging.AddProvider(log).SetMinimumLevel(LogLevel.Debug))
            .AddSingleton(_server.CreateDataSource()).AddDbLock().BuildServiceProvider();
        await (await services.GetRequiredService<LockPool>().AcquireLockAsync("k")).ReleaseAsync();
        Assert.Contains("DbLock: Lock 'k' acquired.", log.Lines);

        // An application that does not dispose asynchronously.
        services.Dispose();
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        var services = new ServiceCollection();
        Assert.Throws<ArgumentException>(() => services.AddDbLock(""));
        Assert.Throws<ArgumentNullException>(() => services.AddDbLock((string)null!));
        Assert.Throws<ArgumentNullException>(() => services.AddDbLock((IConfiguration)null!));
        Assert.Throws<ArgumentNullException>(() => DbLockServiceCollectionExtensions.AddDbLock(null!, configure: null));
        Assert.Throws<ArgumentNullException>(() => DbLockInMemoryServiceCollectionExtensions.AddDbLockInMemory(null!));
    }

    private static DbLockOptions Options(IServiceProvider services, string name) => services.GetRequiredService<IOptionsMonitor<DbLockOptions>>().Get(name);

    private sealed class Begun(Action begin) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken)
        {
            begin();
            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    private sealed class RecordingProvider : ILoggerProvider, ILogger
    {
        private string _category = "";

        public List<string> Lines { get; } = [];

        public ILogger CreateLogger(string categoryName)
        {
            _category = categoryName;
            return this;
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Lines.Add($"{_category}: {formatter(state, exception)}");

        public void Dispose()
        {
        }
    }

    /// <summary>As where what fetches a password has a time of its own.</summary>
    private sealed class CancelledOnce(DbDataSource inner) : DbDataSource
    {
        private bool _wasAsked;

        public override string ConnectionString => inner.ConnectionString;

        protected override DbConnection CreateDbConnection() => inner.CreateConnection();

        protected override ValueTask<DbConnection> OpenDbConnectionAsync(CancellationToken cancellationToken = default) =>
            Interlocked.Exchange(ref _wasAsked, true) ? inner.OpenConnectionAsync(cancellationToken) : throw new TaskCanceledException();
    }
}
