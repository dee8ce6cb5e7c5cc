using Npgsql;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>What PostgreSQL knows of its locks. Every question is one round trip, and looks at one moment.</summary>
/// <remarks>
/// <para>Over a connection a question takes its turn among the caller's own commands; over a data source it has a connection of its own.
/// What the question itself locks is left out.</para>
/// <para><b>Rights.</b> A role sees the locks of all sessions. What other roles' sessions do is shown to superusers and members of
/// <c>pg_read_all_stats</c>; to others such a <see cref="LockSession.IsPartial"/> session shows its pid, user and application alone.</para>
/// <para><b>Cancellation.</b> A cancelled question fails an open transaction, as any cancelled command does.</para>
/// </remarks>
public static class PgInspectionExtensions
{
    /// <summary>Lists the server's locks, of all databases: those that are waited for first, the longest wait first.</summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="filter">Which locks; null for all.</param>
    /// <param name="names">
    /// Keys whose names the program knows: an advisory lock under one of their numbers has it as <see cref="PgLock.Key"/>. Null for none
    /// but the filter's and those that sessions tell.
    /// </param>
    /// <exception cref="NotSupportedException">The filter has a minimal wait, and the server is older than PostgreSQL 14.</exception>
    public static IReadOnlyList<PgLock> GetLocks(
        this NpgsqlConnection connection, PgLockFilter? filter = null, params IReadOnlyCollection<LockKey> names) =>
        Completed(GetLocks(connection, filter, names, async: false, CancellationToken.None));

    /// <inheritdoc cref="GetLocks(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/>
    public static async Task<IReadOnlyList<PgLock>> GetLocksAsync(
        this NpgsqlConnection connection, PgLockFilter? filter = null, IReadOnlyCollection<LockKey>? names = null,
        CancellationToken cancellationToken = default) =>
        await GetLocks(connection, filter, names, async: true, cancellationToken).ConfigureAwait(false);

    /// <inheritdoc cref="GetLocks(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/>
    public static IReadOnlyList<PgLock> GetLocks(
        this NpgsqlDataSource dataSource, PgLockFilter? filter = null, params IReadOnlyCollection<LockKey> names)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        using var connection = dataSource.OpenConnection();
        return connection.GetLocks(filter, names);
    }

    /// <inheritdoc cref="GetLocks(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/>
    public static async Task<IReadOnlyList<PgLock>> GetLocksAsync(
        this NpgsqlDataSource dataSource, PgLockFilter? filter = null, IReadOnlyCollection<LockKey>? names = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            return await connection.GetLocksAsync(filter, names, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Tells who waits for whom.</summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="filter">Keeps the trees in which a lock, held or waited for, matches; null keeps all.</param>
    /// <param name="names">Keys whose names the program knows; null for none but the filter's and those that sessions tell.</param>
    /// <exception cref="NotSupportedException">The filter has a minimal wait, and the server is older than PostgreSQL 14.</exception>
    public static PgWaitGraph GetWaitGraph(
        this NpgsqlConnection connection, PgLockFilter? filter = null, params IReadOnlyCollection<LockKey> names) =>
        Completed(GetWaitGraph(connection, filter, names, async: false, CancellationToken.None));

    /// <inheritdoc cref="GetWaitGraph(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/>
    public static Task<PgWaitGraph> GetWaitGraphAsync(
        this NpgsqlConnection connection, PgLockFilter? filter = null, IReadOnlyCollection<LockKey>? names = null,
        CancellationToken cancellationToken = default) =>
        GetWaitGraph(connection, filter, names, async: true, cancellationToken).AsTask();

    /// <inheritdoc cref="GetWaitGraph(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/>
    public static PgWaitGraph GetWaitGraph(
        this NpgsqlDataSource dataSource, PgLockFilter? filter = null, params IReadOnlyCollection<LockKey> names)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        using var connection = dataSource.OpenConnection();
        return connection.GetWaitGraph(filter, names);
    }

    /// <inheritdoc cref="GetWaitGraph(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/>
    public static async Task<PgWaitGraph> GetWaitGraphAsync(
        this NpgsqlDataSource dataSource, PgLockFilter? filter = null, IReadOnlyCollection<LockKey>? names = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            return await connection.GetWaitGraphAsync(filter, names, cancellationToken).ConfigureAwait(false);
        }
    }

    internal static async ValueTask<List<PgLock>> GetLocks(
        NpgsqlConnection connection, PgLockFilter? filter, IReadOnlyCollection<LockKey>? names, bool async,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(connection);
        filter ??= PgLockFilter.All;
        var query = new PgLockQuery(filter, names ?? [], Contended: filter.BlockingOnly);
        var locks = await query.Run(connection, async, cancellationToken).ConfigureAwait(false);
        if (!filter.BlockingOnly)
        {
            return locks;
        }

        var blocking = new PgWaitGraph(locks).Edges.Select(edge => edge.Blocking).Where(@lock => @lock.Matches);
        return [.. blocking.Distinct(ReferenceEqualityComparer.Instance).Cast<PgLock>()];
    }

    private static async ValueTask<PgWaitGraph> GetWaitGraph(
        NpgsqlConnection connection, PgLockFilter? filter, IReadOnlyCollection<LockKey>? names, bool async,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(connection);
        var query = new PgLockQuery(filter ?? PgLockFilter.All, names ?? [], Contended: true, Queue: true);
        var locks = await query.Run(connection, async, cancellationToken).ConfigureAwait(false);
        return new PgWaitGraph(locks).Matching(locks);
    }
}
