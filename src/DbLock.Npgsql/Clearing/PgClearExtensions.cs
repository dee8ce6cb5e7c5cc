using Npgsql;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>Clearing the way: cancels or terminates the sessions that have certain locks.</summary>
/// <remarks>
/// <para>A session is signalled only while it is the one that was looked at, by process id and by when it began, and still has one of the
/// locks for which it was picked. What is told of it afterwards is what the server shows then.</para>
/// <para><b>Rights.</b> A role may signal sessions of its own roles and, as a member of <c>pg_signal_backend</c>, of all others but
/// superusers; to be sure whom it hits it must also see them, as a member of <c>pg_read_all_stats</c> does.</para>
/// <para><b>Cancellation.</b> What was signalled before the cancel stays signalled, and nobody tells what became of it.</para>
/// </remarks>
public static class PgClearExtensions
{
    private static readonly TimeSpan MaxGrace = TimeSpan.FromDays(1);

    /// <summary>Clears the sessions that have locks which match a filter.</summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="filter">Which locks, held or waited for; at least one property must be set.</param>
    /// <param name="signal">What is done.</param>
    /// <param name="options">Whom to spare, and so on; null is the default.</param>
    /// <returns>What was really signalled and is really gone, one entry for each session that matched.</returns>
    /// <exception cref="ArgumentException">The filter is empty, and would hit every session.</exception>
    /// <exception cref="LockException">More sessions matched than may be signalled. None was.</exception>
    public static PgClearResult ClearLocks(
        this NpgsqlConnection connection, PgLockFilter filter, PgSignal signal, PgClearOptions? options = null) =>
        Completed(ClearLocks(connection, filter, signal, options, async: false, CancellationToken.None));

    /// <inheritdoc cref="ClearLocks(NpgsqlConnection, PgLockFilter, PgSignal, PgClearOptions?)"/>
    public static Task<PgClearResult> ClearLocksAsync(
        this NpgsqlConnection connection, PgLockFilter filter, PgSignal signal, PgClearOptions? options = null,
        CancellationToken cancellationToken = default) =>
        ClearLocks(connection, filter, signal, options, async: true, cancellationToken).AsTask();

    /// <summary>Clears the sessions that have locks which were looked at before: for showing them and asking first.</summary>
    /// <param name="connection">An open connection.</param>
    /// <param name="locks">
    /// The locks, as <see cref="PgInspectionExtensions.GetLocks(NpgsqlConnection, PgLockFilter?, IReadOnlyCollection{LockKey})"/> gave
    /// them.
    /// </param>
    /// <param name="signal">What is done.</param>
    /// <param name="options">Whom to spare, and so on; null is the default.</param>
    /// <returns>What was really signalled and is really gone, one entry for each session.</returns>
    /// <exception cref="LockException">There are more sessions than may be signalled. None was.</exception>
    public static PgClearResult ClearLocks(
        this NpgsqlConnection connection, IReadOnlyCollection<PgLock> locks, PgSignal signal, PgClearOptions? options = null) =>
        Completed(ClearLocks(connection, locks, signal, options, async: false, CancellationToken.None));

    /// <inheritdoc cref="ClearLocks(NpgsqlConnection, IReadOnlyCollection{PgLock}, PgSignal, PgClearOptions?)"/>
    public static Task<PgClearResult> ClearLocksAsync(
        this NpgsqlConnection connection, IReadOnlyCollection<PgLock> locks, PgSignal signal, PgClearOptions? options = null,
        CancellationToken cancellationToken = default) =>
        ClearLocks(connection, locks, signal, options, async: true, cancellationToken).AsTask();

    /// <inheritdoc cref="ClearLocks(NpgsqlConnection, PgLockFilter, PgSignal, PgClearOptions?)"/>
    public static PgClearResult ClearLocks(
        this NpgsqlDataSource dataSource, PgLockFilter filter, PgSignal signal, PgClearOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        using var connection = dataSource.OpenConnection();
        return connection.ClearLocks(filter, signal, options);
    }

    /// <inheritdoc cref="ClearLocks(NpgsqlConnection, PgLockFilter, PgSignal, PgClearOptions?)"/>
    public static async Task<PgClearResult> ClearLocksAsync(
        this NpgsqlDataSource dataSource, PgLockFilter filter, PgSignal signal, PgClearOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            return await connection.ClearLocksAsync(filter, signal, options, cancellationToken).ConfigureAwait(false);
        }
    }

    internal static async ValueTask<PgClearResult> ClearLocks(
        NpgsqlConnection connection, IReadOnlyCollection<PgLock> locks, PgSignal signal, PgClearOptions? options, bool async,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(locks);
        options ??= PgClearOptions.Default;
        Check(signal, options);
        return await new PgClearing(
            connection, options, waits: null, async, CancellationToken.None, cancellationToken).Clear(locks, signal).ConfigureAwait(false);
    }

    internal static void Check(PgSignal signal, PgClearOptions options)
    {
        if (signal is < PgSignal.Cancel or > PgSignal.CancelThenTerminate)
        {
            throw new ArgumentOutOfRangeException(nameof(signal), signal, "There is no such signal.");
        }

        if (options.Grace < TimeSpan.Zero || options.Grace > MaxGrace)
        {
            throw new ArgumentOutOfRangeException(nameof(options), options.Grace, "PgClearOptions.Grace must lie between zero and a day.");
        }
    }

    private static async ValueTask<PgClearResult> ClearLocks(
        NpgsqlConnection connection, PgLockFilter filter, PgSignal signal, PgClearOptions? options, bool async,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(filter);
        if (filter == PgLockFilter.All)
        {
            throw new ArgumentException(
                "An empty filter would hit every session of the server: say which locks are meant.", nameof(filter));
        }

        Check(signal, options ?? PgClearOptions.Default);
        var locks = await PgInspectionExtensions.GetLocks(connection, filter, names: null, async, cancellationToken).ConfigureAwait(false);
        return await ClearLocks(connection, locks, signal, options, async, cancellationToken).ConfigureAwait(false);
    }
}
