using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>How a <see cref="Lock"/> is held. Every default is what <c>new LockOptions()</c> has.</summary>
public sealed record LockOptions
{
    internal static readonly LockOptions Default = new();

    /// <summary>
    /// Gets whether others may hold the lock at the same time, if they too ask for it shared. MySQL and MariaDB have no shared locks.
    /// </summary>
    public bool Shared { get; init; }

    /// <summary>Gets what ends the hold: the session (default), the transaction, or time.</summary>
    public LockScope Scope { get; init; }

    /// <summary>
    /// Gets whether <see cref="Lock.HandleError(Exception)"/> rolls <see cref="Lock.Transaction"/> back (default: true). A release that
    /// meets an aborted transaction rolls back too, since the server refuses to unlock inside one.
    /// </summary>
    public bool RollbackOnError { get; init; } = true;

    /// <summary>
    /// Gets whether the same key may be acquired again over a connection that holds it. Each acquire then needs its own release. Without
    /// it, a second try answers false and a second wait throws, since it would wait for itself.
    /// </summary>
    public bool Reentrant { get; init; }

    /// <summary>Gets how the lock waits: in the server's queue (default), or yielding.</summary>
    public LockWait Wait { get; init; }

    /// <summary>
    /// Gets whether each grant has a number that is larger than those of all grants of the lock before it
    /// (<see cref="Lock.FencingToken"/>), by which a resource can refuse a writer who has lost the lock and does not know. It needs session
    /// scope, a lock that is acquired outside a transaction, and PostgreSQL, whose disk it costs one flush.
    /// </summary>
    public bool Fencing { get; init; }

    /// <summary>
    /// Gets whether a connection pooler in front of PostgreSQL is known to keep one server session for each client connection (PgBouncer's
    /// session mode). Without it a pooler that is noticed is refused for <see cref="LockScope.Session"/>, because in transaction mode two
    /// clients get the same lock.
    /// </summary>
    public bool TrustPooler { get; init; }

    /// <summary>
    /// Gets the SQL dialect of the server, such as <c>LockDialect.PostgreSql</c> in the namespace DbLock.Drivers; null finds it from the
    /// connection.
    /// </summary>
    public LockDialect? Dialect { get; init; }

    /// <summary>
    /// Gets how long a lock of <see cref="LockScope.Lease"/> lasts if it is not renewed: 30 seconds by default, from 2 seconds to 10 days.
    /// A lock from a data source is renewed three times as often; so this is how long the others wait after its process has died. One on a
    /// connection of the caller's is renewed by him (<see cref="Lock.Renew()"/>).
    /// </summary>
    public TimeSpan Lease { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Gets for how long after its grant a lock of <see cref="LockScope.Lease"/> is not given again, even if it was released or its process
    /// died: none by default, up to 365 days. With a little less than the interval of a job, the job runs once in each interval, however
    /// many processes start it.
    /// </summary>
    public TimeSpan AtLeast { get; init; }

    /// <summary>
    /// Gets by how much the clocks of the servers that may serve one after another (a primary and its standbys, the nodes of a cluster) may
    /// differ: up to half of <see cref="Lease"/>. A holder trusts its lease for so much less. Null (default) is one second, and none for a
    /// file.
    /// </summary>
    public TimeSpan? ClockMargin { get; init; }

    /// <summary>Gets the table of locks of <see cref="LockScope.Lease"/>.</summary>
    public LeaseTable LeaseTable { get; init; } = LeaseTable.Default;

    /// <summary>Gets what is told of a lock of <see cref="LockScope.Lease"/> in its row, for people; at most 200 characters.</summary>
    public string Note { get; init; } = "";

    /// <summary>
    /// Gets whether traces and metrics have the key's name in them (<c>dblock.key</c>). Off by default: names can be secret, or too many.
    /// </summary>
    public bool TelemetryKey { get; init; }

    /// <summary>
    /// Gets whether people who look at the server can see the lock's name (default: true): in a comment before the statements that acquire,
    /// and in the application_name of a PostgreSQL session that only locks use. Every role sees application_name. Statements are seen by
    /// the same role, by superusers and members of <c>pg_read_all_stats</c>, and in the server's log where it logs them. Turn it off for
    /// names that are secret.
    /// </summary>
    public bool ShowName { get; init; } = true;

    /// <summary>Gets where the lock logs; null logs nothing. Make it with the category <see cref="Lock.LogCategory"/>.</summary>
    public ILogger? Logger { get; init; }
}
