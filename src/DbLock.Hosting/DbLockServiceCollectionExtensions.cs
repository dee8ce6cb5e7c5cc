using System.Data.Common;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace DbLock;

/// <summary>Locks in an application's services.</summary>
public static class DbLockServiceCollectionExtensions
{
    /// <summary>
    /// Adds a <see cref="LockPool"/> on the application's <see cref="DbDataSource"/>, which must be among the services too, as itself and
    /// as <see cref="ILockSource"/>. It ends with the application.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options; null leaves their defaults.</param>
    public static IServiceCollection AddDbLock(this IServiceCollection services, Action<DbLockOptions>? configure = null) =>
        Add(services, null, configure);

    /// <summary>
    /// Adds a <see cref="LockPool"/> on one of several databases: a keyed service on the keyed <see cref="DbDataSource"/> of the same name.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The database's name: the key of both services, and the name of the options.</param>
    /// <param name="configure">Sets the options; null leaves their defaults.</param>
    public static IServiceCollection AddDbLock(this IServiceCollection services, string name, Action<DbLockOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        return Add(services, name, configure);
    }

    /// <summary>
    /// Adds a <see cref="LockPool"/> as <see cref="AddDbLock(IServiceCollection, Action{DbLockOptions})"/> does, with options from the
    /// configuration.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="configuration">
    /// The section that has the options' names. One that <see cref="DbLockOptions"/> has not is an error, told at the application's start.
    /// </param>
    public static IServiceCollection AddDbLock(this IServiceCollection services, IConfiguration configuration) =>
        Add(services, null, configuration);

    /// <summary>
    /// Adds a <see cref="LockPool"/> as <see cref="AddDbLock(IServiceCollection, string, Action{DbLockOptions})"/> does, with options from
    /// the configuration.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The database's name: the key of both services, and the name of the options.</param>
    /// <param name="configuration">
    /// The section that has the options' names. One that <see cref="DbLockOptions"/> has not is an error, told at the application's start.
    /// </param>
    public static IServiceCollection AddDbLock(this IServiceCollection services, string name, IConfiguration configuration)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        return Add(services, name, configuration);
    }

    private static IServiceCollection Add(IServiceCollection services, string? name, IConfiguration configuration)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        Add(services, name, configure: null);
        services.AddOptions<DbLockOptions>(name).Bind(configuration, binder => binder.ErrorOnUnknownConfiguration = true).ValidateOnStart();
        return services;
    }

    private static IServiceCollection Add(IServiceCollection services, string? name, Action<DbLockOptions>? configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddOptions<DbLockOptions>(name).Configure(configure ?? (static _ => { }));
        if (name is null)
        {
            services.TryAddSingleton(provider => Create(provider, provider.GetService<DbDataSource>(), name));
            services.TryAddSingleton<ILockSource>(static provider => provider.GetRequiredService<LockPool>());
        }
        else
        {
            services.TryAddKeyedSingleton(name, (provider, _) => Create(provider, provider.GetKeyedService<DbDataSource>(name), name));
            services.TryAddKeyedSingleton<ILockSource>(name, static (provider, key) => provider.GetRequiredKeyedService<LockPool>(key));
        }

        return services;
    }

    private static InvalidOperationException NoDataSource(string? name)
    {
        var (missing, add) = name is null
            ? ("DbDataSource", "AddSingleton<DbDataSource>(")
            : ($"DbDataSource with the key '{name}'", $"AddKeyedSingleton<DbDataSource>(\"{name}\", ");
        return new InvalidOperationException(
            $"AddDbLock found no {missing} among the services, and has no database to lock on: add one, such as "
            + $"services.{add}NpgsqlDataSource.Create(connectionString)).");
    }

    private static LockPool Create(IServiceProvider provider, DbDataSource? dataSource, string? name)
    {
        var options = provider.GetRequiredService<IOptionsMonitor<DbLockOptions>>().Get(name);
        return new LockPool(
            dataSource ?? throw NoDataSource(name),
            options: new LockPoolOptions
            {
                TrustPooler = options.TrustPooler,
                TelemetryKey = options.TelemetryKey,
                Logger = provider.GetService<ILoggerFactory>()?.CreateLogger(Lock.LogCategory),
            });
    }
}
