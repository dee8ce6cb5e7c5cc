using System.Data.Common;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
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
            Assert.Same(locks, services.GetRequiredService<ILockSource>());
            held = await locks.AcquireLockAsync("k");
            Assert.True(_server.IsHeld("k"));
        }

        Assert.False(_server.IsHeld("k"));
        Assert.True(held.Lost.IsCancellationRequested);
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
        Assert.Same(services.GetRequiredKeyedService<LockPool>("reports"), services.GetRequiredKeyedService<ILockSource>("reports"));
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
    }

    private static DbLockOptions Options(IServiceProvider services, string name) => services.GetRequiredService<IOptionsMonitor<DbLockOptions>>().Get(name);

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
}
