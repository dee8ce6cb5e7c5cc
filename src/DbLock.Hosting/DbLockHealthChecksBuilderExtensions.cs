using DbLock;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Locks in an application's health checks.</summary>
public static class DbLockHealthChecksBuilderExtensions
{
    /// <summary>
    /// Adds a check that takes a lock and lets go of it: healthy where that works; degraded where it takes longer than a second, or where
    /// leases that are held were not renewed in time; else unhealthy.
    /// </summary>
    /// <param name="builder">The application's health checks.</param>
    /// <param name="database">The database's name, as <c>AddDbLock</c> has it; null for the application's own.</param>
    /// <param name="name">The check's name; null is <c>dblock</c>, and of a database with a name <c>dblock:NAME</c>.</param>
    /// <param name="failureStatus">What is told where no lock can be taken; null is unhealthy.</param>
    /// <param name="tags">The check's tags; null for none.</param>
    /// <param name="timeout">How long the check may take; null sets no limit.</param>
    public static IHealthChecksBuilder AddDbLock(
        this IHealthChecksBuilder builder, string? database = null, string? name = null, HealthStatus? failureStatus = null,
        IEnumerable<string>? tags = null, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var of = new LockDatabase(database);
        return builder.Add(new HealthCheckRegistration(
            name ?? (database is null ? "dblock" : $"dblock:{database}"),
            provider => new LockHealthCheck(of.Source(provider)), failureStatus, tags, timeout));
    }
}
