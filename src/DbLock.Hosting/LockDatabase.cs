using System.Data.Common;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace DbLock;

/// <summary>One of the application's databases.</summary>
/// <param name="Name">Its name, the key of its services; null for the application's own.</param>
/// <remarks>
/// A data source whose key is a database is taken for its locks before the application's: DbLock.InMemory stands in for it in this way.
/// </remarks>
internal sealed record LockDatabase(string? Name)
{
    /// <summary>Returns a service of this database; null when there is none.</summary>
    public T? Service<T>(IServiceProvider provider)
        where T : class => Name is null ? provider.GetService<T>() : provider.GetKeyedService<T>(Name);

    /// <summary>Returns the source of locks.</summary>
    public ILockSource Source(IServiceProvider provider) => Service<ILockSource>(provider)
        ?? throw new InvalidOperationException($"There is no ILockSource among the services: add services.{ToString()}.");

    public DbLockOptions Options(IServiceProvider provider) => provider.GetRequiredService<IOptionsMonitor<DbLockOptions>>().Get(Name);

    /// <summary>Makes the source of locks.</summary>
    public ApplicationLocks CreateSource(IServiceProvider provider)
    {
        var options = Options(provider);
        var pool = options.Scope == LockScope.Lease ? null : Service<LockPool>(provider);
        return new(DataSource(provider), pool, options, Logger(provider));
    }

    /// <summary>Makes the pool.</summary>
    public LockPool CreatePool(IServiceProvider provider)
    {
        var options = Options(provider);
        return options.Scope == LockScope.Lease
            ? throw new InvalidOperationException(
                $"{this} takes leases (DbLockOptions.Scope) from the data source, so that there is no LockPool: ask for an ILockSource.")
            : new LockPool(DataSource(provider), options.Interface, new LockPoolOptions
            {
                Fencing = options.Fencing,
                TrustPooler = options.TrustPooler,
                TelemetryKey = options.TelemetryKey,
                ShowName = options.ShowName,
                Dialect = options.Dialect,
                Logger = Logger(provider),
            });
    }

    /// <summary>Returns the call that adds it.</summary>
    public override string ToString() => Name is null ? "AddDbLock()" : $"AddDbLock(\"{Name}\")";

    public static ILogger? Logger(IServiceProvider provider) => provider.GetService<ILoggerFactory>()?.CreateLogger(Lock.LogCategory);

    private DbDataSource DataSource(IServiceProvider provider) =>
        provider.GetKeyedService<DbDataSource>(this) ?? Service<DbDataSource>(provider) ?? throw NoDataSource();

    private InvalidOperationException NoDataSource()
    {
        var (missing, add) = Name is null
            ? ("DbDataSource", "AddSingleton<DbDataSource>(")
            : ($"DbDataSource with the key '{Name}'", $"AddKeyedSingleton<DbDataSource>(\"{Name}\", ");
        return new InvalidOperationException(
            $"AddDbLock found no {missing} among the services, and has no database to lock on: add one, such as "
            + $"services.{add}NpgsqlDataSource.Create(connectionString)).");
    }
}
