using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// How the locks of a <see cref="LockPool"/> are held. They are not re-entrant, and each is said to be shared when it is acquired. Every
/// default is what <c>new LockPoolOptions()</c> has.
/// </summary>
public sealed record LockPoolOptions
{
    /// <summary>
    /// Gets what ends a hold: the session of the pool's connection (default), or time (<see cref="LockScope.Lease"/>): the pool keeps no
    /// connection then, borrows one for each round, has a fencing token for each grant, and no shared locks. A transaction does not carry
    /// a pool.
    /// </summary>
    public LockScope Scope { get; init; }

    /// <summary>Gets how long a lease lasts if it is not renewed, as <see cref="LockOptions.Lease"/>.</summary>
    public TimeSpan Lease { get; init; } = LockOptions.Default.Lease;

    /// <summary>Gets for how long after its grant a lease is not given again, as <see cref="LockOptions.AtLeast"/>.</summary>
    public TimeSpan AtLeast { get; init; }

    /// <summary>Gets by how much the clocks of servers may differ, as <see cref="LockOptions.ClockMargin"/>.</summary>
    public TimeSpan? ClockMargin { get; init; }

    /// <summary>Gets the table of leases.</summary>
    public LeaseTable LeaseTable { get; init; } = LeaseTable.Default;

    /// <summary>Gets what is told of each lease in its row, as <see cref="LockOptions.Note"/>.</summary>
    public string Note { get; init; } = "";

    /// <summary>
    /// Gets whether each grant has a fencing token (<see cref="PooledLock.FencingToken"/>), as <see cref="LockOptions.Fencing"/>; no lock
    /// can be shared then.
    /// </summary>
    public bool Fencing { get; init; }

    /// <summary>
    /// Gets whether a connection pooler in front of the server is known to keep one server session for each client connection, as
    /// <see cref="LockOptions.TrustPooler"/>.
    /// </summary>
    public bool TrustPooler { get; init; }

    /// <summary>Gets the SQL dialect of the server, as <see cref="LockOptions.Dialect"/>; null finds it from the connection.</summary>
    public LockDialect? Dialect { get; init; }

    /// <summary>
    /// Gets whether traces and metrics have the key's name in them, as <see cref="LockOptions.TelemetryKey"/> (default: false).
    /// </summary>
    public bool TelemetryKey { get; init; }

    /// <summary>
    /// Gets whether people who look at the server can see, in the application_name of a PostgreSQL session, that it is a pool's (default:
    /// true).
    /// </summary>
    public bool ShowName { get; init; } = true;

    /// <summary>Gets where the pool logs; null logs nothing. Make it with the category <see cref="Lock.LogCategory"/>.</summary>
    public ILogger? Logger { get; init; }

    /// <summary>Returns the options that each of its locks has.</summary>
    /// <param name="parameter">The name of the parameter that these came in.</param>
    /// <exception cref="ArgumentException">They ask for what a pool cannot be.</exception>
    internal LockOptions ToLockOptions(string parameter)
    {
        var options = new LockOptions
        {
            Scope = Scope,
            Lease = Lease,
            AtLeast = AtLeast,
            ClockMargin = ClockMargin,
            LeaseTable = LeaseTable,
            Note = Note,
            Fencing = Fencing,
            TrustPooler = TrustPooler,
            Dialect = Dialect,
            TelemetryKey = TelemetryKey,
            ShowName = ShowName,
            Logger = Logger,
        };
        if (Scope == LockScope.Transaction)
        {
            throw PoolReports.NoTransactionScope(parameter);
        }

        Leasing.Check(options, parameter);
        return options;
    }
}
