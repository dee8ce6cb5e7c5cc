using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>How the way is cleared. Every default is what <c>new PgClearOptions()</c> has.</summary>
/// <remarks>The session that asks, and the server's own processes other than those named here, are never signalled.</remarks>
public sealed record PgClearOptions
{
    internal static readonly PgClearOptions Default = new();

    /// <summary>Gets whether nothing is signalled, and only told what would be.</summary>
    public bool DryRun { get; init; }

    /// <summary>
    /// Gets how long a signalled session is given to end or to let go, before it is terminated or reported as still there: five seconds by
    /// default, up to a day.
    /// </summary>
    public TimeSpan Grace { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Gets how many sessions may be signalled at most: when more would be, none is, and <see cref="LockException"/> says so. Null
    /// (default) is any number.
    /// </summary>
    public int? MaxSessions { get; init; }

    /// <summary>Gets whether superusers' sessions are signalled too. It takes a superuser to do so.</summary>
    public bool IncludeSuperusers { get; init; }

    /// <summary>Gets whether replication is ended too: WAL senders and receivers, and the workers of logical replication.</summary>
    public bool IncludeReplication { get; init; }

    /// <summary>
    /// Gets whether autovacuum is ended too. It gives way by itself to most locks that wait for it, but not when it prevents a wraparound.
    /// </summary>
    public bool IncludeAutovacuum { get; init; }

    /// <summary>Gets the roles whose sessions are never signalled.</summary>
    public IReadOnlyList<string> ExceptUsers { get; init; } = [];

    /// <summary>Gets the application names whose sessions are never signalled.</summary>
    public IReadOnlyList<string> ExceptApplications { get; init; } = [];

    /// <summary>
    /// Gets where each signal is logged, as a warning; null logs nothing. Make it with the category <see cref="Lock.LogCategory"/>.
    /// </summary>
    public ILogger? Logger { get; init; }
}
