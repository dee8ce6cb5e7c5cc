using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>How the locks of a database are taken, as <c>AddDbLock</c> and the configuration say it.</summary>
public sealed class DbLockOptions
{
    /// <summary>
    /// Gets or sets what ends a hold: the session (default), or time (<see cref="LockScope.Lease"/>). On an engine that has leases alone,
    /// the default takes leases. <see cref="LockScope.Transaction"/> is refused.
    /// </summary>
    public LockScope Scope { get; set; }

    /// <summary>Gets or sets how long a lease lasts, as <see cref="LockOptions.Lease"/>; null is its default.</summary>
    public TimeSpan? Lease { get; set; }

    /// <summary>
    /// Gets or sets by how much the clocks of servers may differ, as <see cref="LockOptions.ClockMargin"/>; null is its default.
    /// </summary>
    public TimeSpan? ClockMargin { get; set; }

    /// <summary>Gets or sets the table of leases; null is <see cref="LeaseTable.Default"/>.</summary>
    public LeaseTable? LeaseTable { get; set; }

    /// <summary>
    /// Gets or sets whether each grant has a fencing token, as <see cref="LockPoolOptions.Fencing"/>. Leases have one always.
    /// </summary>
    public bool Fencing { get; set; }

    /// <summary>
    /// Gets or sets whether a pooler in front of the database is known to keep one server session for each connection, as
    /// <see cref="LockPoolOptions.TrustPooler"/>.
    /// </summary>
    public bool TrustPooler { get; set; }

    /// <summary>
    /// Gets or sets whether traces and metrics have the key's name in them, as <see cref="LockPoolOptions.TelemetryKey"/>.
    /// </summary>
    public bool TelemetryKey { get; set; }

    /// <summary>
    /// Gets or sets whether people who look at the server can see the names of locks, as <see cref="LockOptions.ShowName"/> (default:
    /// true).
    /// </summary>
    public bool ShowName { get; set; } = true;

    /// <summary>Gets or sets the driver's name; null finds it from the connection. It is set in code alone.</summary>
    public LockInterface? Interface { get; set; }

    /// <summary>Gets or sets the SQL dialect of the server; null finds it from the connection. It is set in code alone.</summary>
    public LockDialect? Dialect { get; set; }

    /// <summary>Gets whether something is said that only leases have.</summary>
    internal bool SaysLeases => Lease is not null || ClockMargin is not null || LeaseTable is not null;

    internal LockOptions ToLockOptions(ILogger? logger) => new()
    {
        Scope = Scope,
        Lease = Lease ?? LockOptions.Default.Lease,
        ClockMargin = ClockMargin,
        LeaseTable = LeaseTable ?? LeaseTable.Default,
        Fencing = Fencing,
        TrustPooler = TrustPooler,
        TelemetryKey = TelemetryKey,
        ShowName = ShowName,
        Dialect = Dialect,
        Logger = logger,
    };
}
