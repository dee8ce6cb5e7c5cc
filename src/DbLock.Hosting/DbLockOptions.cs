namespace DbLock;

/// <summary>How the locks of a database are taken, as <c>AddDbLock</c> and the configuration say it.</summary>
public sealed class DbLockOptions
{
    /// <summary>
    /// Gets or sets whether a pooler in front of the database is known to keep one server session for each connection, as
    /// <see cref="LockPoolOptions.TrustPooler"/>.
    /// </summary>
    public bool TrustPooler { get; set; }

    /// <summary>
    /// Gets or sets whether traces and metrics have the key's name in them, as <see cref="LockPoolOptions.TelemetryKey"/>.
    /// </summary>
    public bool TelemetryKey { get; set; }
}
