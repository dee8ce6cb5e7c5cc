using System.Data.Common;
using DbLock;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Locks without a server in an application's services, for its tests.</summary>
public static class DbLockInMemoryServiceCollectionExtensions
{
    /// <summary>
    /// Has the locks of <c>AddDbLock</c> taken on an <see cref="InMemoryLockServer"/>, which is among the services then, and adds them if
    /// nobody has. The application's own data source stays as it is. Where the application takes leases it gets locks with fencing tokens,
    /// as leases have them.
    /// </summary>
    /// <param name="services">The services. It may be called before or after <c>AddDbLock</c>.</param>
    /// <param name="name">
    /// The database's name, the key of the services, as <c>AddDbLock</c> has it; null for the application's own.
    /// </param>
    public static IServiceCollection AddDbLockInMemory(this IServiceCollection services, string? name = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        var database = new LockDatabase(name);
        if (name is null)
        {
            services.TryAddSingleton<InMemoryLockServer>();
            services.AddDbLock();
        }
        else
        {
            services.TryAddKeyedSingleton<InMemoryLockServer>(name);
            services.AddDbLock(name);
        }

        services.TryAddKeyedSingleton<DbDataSource>(
            database, (provider, _) => database.Service<InMemoryLockServer>(provider)!.CreateDataSource());
        return services.PostConfigure<DbLockOptions>(name ?? Options.Options.DefaultName, static options =>
        {
            options.Fencing |= options.Scope == LockScope.Lease;
            options.Scope = LockScope.Session;
            (options.Lease, options.ClockMargin, options.LeaseTable) = (null, null, null);
            (options.Interface, options.Dialect) = (null, null);
        });
    }
}
