using DbLock;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Locks in an application's services.</summary>
public static class DbLockServiceCollectionExtensions
{
    /// <summary>
    /// Adds an <see cref="ILockSource"/> on the application's <see cref="System.Data.Common.DbDataSource"/>, which must be among the
    /// services too: a <see cref="LockPool"/> where the engine can carry one, leases where they are asked for or the engine has nothing
    /// else, and a connection for each lock elsewhere. It ends with the application. A host looks at its start whether it works.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options; null leaves their defaults.</param>
    public static IServiceCollection AddDbLock(this IServiceCollection services, Action<DbLockOptions>? configure = null) =>
        Add(services, null, configure);

    /// <summary>
    /// Adds an <see cref="ILockSource"/> on one of several databases: a keyed service on the keyed
    /// <see cref="System.Data.Common.DbDataSource"/> of the same name.
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
    /// Adds an <see cref="ILockSource"/> as <see cref="AddDbLock(IServiceCollection, Action{DbLockOptions})"/> does, with options from the
    /// configuration.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="configuration">
    /// The section that has the options' names. One that <see cref="DbLockOptions"/> has not is an error, told at the application's start.
    /// </param>
    public static IServiceCollection AddDbLock(this IServiceCollection services, IConfiguration configuration) =>
        Add(services, null, configuration);

    /// <summary>
    /// Adds an <see cref="ILockSource"/> as <see cref="AddDbLock(IServiceCollection, string, Action{DbLockOptions})"/> does, with options
    /// from the configuration.
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
        services.AddOptions<DbLockOptions>(name).Configure(_ => Check(configuration))
            .Bind(configuration, binder => binder.ErrorOnUnknownConfiguration = true)
            .Validate(static options => Enum.IsDefined(options.Scope), "The configured Scope of DbLock's locks is none: Session or Lease.")
            .ValidateOnStart();
        return services;
    }

    // The binder leaves these out without a word, and the locks would be others than were meant.
    private static void Check(IConfiguration configuration)
    {
        if (configuration is IConfigurationSection { Value: { Length: > 0 } whole } options)
        {
            throw new InvalidOperationException(
                $"'{options.Path}' is '{whole}', where options have names: write "
                + $"'{options.Path}:{nameof(DbLockOptions.Scope)}' and the like.");
        }

        foreach (var name in new[] { nameof(DbLockOptions.Interface), nameof(DbLockOptions.Dialect) })
        {
            if (configuration.GetSection(name) is var section && section.Exists())
            {
                throw new InvalidOperationException(
                    $"'{section.Path}' cannot be configured: set it in code, as AddDbLock(options => options.{name} = …).");
            }
        }

        if (configuration.GetSection(nameof(DbLockOptions.LeaseTable)) is { Value: { } value } table)
        {
            throw new InvalidOperationException(
                $"'{table.Path}' is '{value}', where a table has a name and may have a schema: write '{table.Path}:Name' and "
                + $"'{table.Path}:Schema'.");
        }
    }

    private static IServiceCollection Add(IServiceCollection services, string? name, Action<DbLockOptions>? configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddOptions<DbLockOptions>(name).Configure(configure ?? (static _ => { }));
        var database = new LockDatabase(name);
        if (services.Any(service => service is { IsKeyedService: false, ImplementationInstance: LockDatabase there } && there == database))
        {
            return services;
        }

        services.AddSingleton(database);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, LockStart>());
        if (name is null)
        {
            services.TryAddSingleton(database.CreatePool);
            services.TryAddSingleton<ILockSource>(database.CreateSource);
        }
        else
        {
            services.TryAddKeyedSingleton(name, (provider, _) => database.CreatePool(provider));
            services.TryAddKeyedSingleton<ILockSource>(name, (provider, _) => database.CreateSource(provider));
        }

        return services;
    }
}
