using System.Diagnostics.CodeAnalysis;
using DbLock;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging.Abstractions;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Services that run on one instance of an application.</summary>
public static class DbLockLeaderServiceCollectionExtensions
{
    /// <summary>
    /// Adds a service that runs on one instance of the application, the leader of an election: started there when that has the lock,
    /// stopped when that loses it or ends, and then started on another. <see cref="ILeader"/> tells of the election: a keyed service with
    /// its key, and one without for the first.
    /// </summary>
    /// <typeparam name="T">
    /// The service. It is made anew for each term, in a scope of its own, so that scoped services can be had in its constructor. The token
    /// of its <see cref="IHostedService.StartAsync"/>, and with it that of a <see cref="BackgroundService"/>, fires when the term ends. One
    /// that fails gives up the lead.
    /// </typeparam>
    /// <param name="services">The services, which have <c>AddDbLock</c> too.</param>
    /// <param name="key">The key of the lock that the leader holds: one for each election.</param>
    /// <param name="database">The database's name, as <c>AddDbLock</c> has it; null for the application's own.</param>
    /// <exception cref="ArgumentException">There is an election with this key already.</exception>
    public static IServiceCollection AddLeader<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] T>(
        this IServiceCollection services, string key, string? database = null)
        where T : class, IHostedService
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(key);
        if (services.Any(service => service.ServiceType == typeof(ILeader) && Equals(service.ServiceKey, key)))
        {
            throw new ArgumentException(
                $"There is an election with the key '{key}' already, and one instance leads it: give each service a key of its own.",
                nameof(key));
        }

        var (lockKey, of) = ((LockKey)key, new LockDatabase(database));
        services.AddKeyedSingleton<ILeader>(key, (provider, _) => new Leader(
            lockKey, of.Source(provider), LockDatabase.Logger(provider) ?? NullLogger.Instance));
        services.TryAddSingleton(provider => provider.GetRequiredKeyedService<ILeader>(key));
        return services.AddSingleton<IHostedService>(provider => new LeaderElection<T>(
            provider, (Leader)provider.GetRequiredKeyedService<ILeader>(key), LockDatabase.Logger(provider) ?? NullLogger.Instance,
            of.Options(provider).TelemetryKey));
    }
}
