using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// How the locks of a <see cref="LockPool"/> are held. They are of session scope and not re-entrant, and each is said to be shared when it
/// is acquired. Every default is what <c>new LockPoolOptions()</c> has.
/// </summary>
public sealed record LockPoolOptions
{
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
    internal LockOptions ToLockOptions() => new()
    {
        Fencing = Fencing,
        TrustPooler = TrustPooler,
        Dialect = Dialect,
        TelemetryKey = TelemetryKey,
        ShowName = ShowName,
        Logger = Logger,
    };
}
