using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Npgsql;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>What PostgreSQL alone can do, from a context over Npgsql's provider.</summary>
public static class DbLockDbContextExtensions
{
    /// <summary>Locks the tables of an entity until the context's transaction ends.</summary>
    /// <typeparam name="TEntity">
    /// The entity. With its tables are locked those of the entities that inherit from it and of what it owns.
    /// </typeparam>
    /// <param name="context">The context, in a transaction.</param>
    /// <param name="mode">How strong the lock is.</param>
    /// <param name="timeout">From zero, which tries once, to about 24 days; null waits for ever. All tables share it.</param>
    /// <returns>
    /// True when the transaction holds the lock; false when it was held elsewhere for the whole timeout. The transaction is usable then,
    /// and as before.
    /// </returns>
    /// <exception cref="ArgumentException">The entity is none of the model's, or has no table.</exception>
    /// <exception cref="NotSupportedException">The context's provider is not Npgsql's.</exception>
    /// <inheritdoc cref="TableLock.Acquire(TimeSpan)" path="/exception"/>
    public static bool LockTable<TEntity>(this DbContext context, PgLockMode mode, TimeSpan? timeout = null)
        where TEntity : class =>
        LockTables(context, mode, [typeof(TEntity)], timeout);

    /// <inheritdoc cref="LockTable{TEntity}" path="/summary"/>
    /// <inheritdoc cref="LockTable{TEntity}" path="/typeparam"/>
    /// <inheritdoc cref="LockTable{TEntity}" path="/returns"/>
    /// <inheritdoc cref="LockTable{TEntity}" path="/exception"/>
    /// <param name="context">The context, in a transaction.</param>
    /// <param name="mode">How strong the lock is.</param>
    /// <param name="timeout">As for <see cref="LockTable{TEntity}"/>.</param>
    /// <param name="cancellationToken">Ends the wait; the transaction is usable then, and as before.</param>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public static ValueTask<bool> LockTableAsync<TEntity>(
        this DbContext context, PgLockMode mode, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
        where TEntity : class =>
        LockTablesAsync(context, mode, [typeof(TEntity)], timeout, cancellationToken);

    /// <summary>Locks the tables of several entities, all or none, until the context's transaction ends.</summary>
    /// <param name="context">The context, in a transaction.</param>
    /// <param name="mode">How strong the lock is.</param>
    /// <param name="entities">The entities' types, as for <see cref="LockTable{TEntity}"/>.</param>
    /// <param name="timeout">From zero, which tries once, to about 24 days; null waits for ever. All tables share it.</param>
    /// <inheritdoc cref="LockTable{TEntity}" path="/returns"/>
    /// <inheritdoc cref="LockTable{TEntity}" path="/exception"/>
    public static bool LockTables(this DbContext context, PgLockMode mode, IEnumerable<Type> entities, TimeSpan? timeout = null) =>
        Create(context, mode, entities).Acquire(timeout ?? Timeout.InfiniteTimeSpan);

    /// <inheritdoc cref="LockTables" path="/summary"/>
    /// <inheritdoc cref="LockTables" path="/returns"/>
    /// <inheritdoc cref="LockTables" path="/exception"/>
    /// <param name="context">The context, in a transaction.</param>
    /// <param name="mode">How strong the lock is.</param>
    /// <param name="entities">The entities' types, as for <see cref="LockTable{TEntity}"/>.</param>
    /// <param name="timeout">As for <see cref="LockTables"/>.</param>
    /// <param name="cancellationToken">Ends the wait; the transaction is usable then, and as before.</param>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public static ValueTask<bool> LockTablesAsync(
        this DbContext context, PgLockMode mode, IEnumerable<Type> entities, TimeSpan? timeout = null,
        CancellationToken cancellationToken = default) =>
        Create(context, mode, entities).AcquireAsync(timeout ?? Timeout.InfiniteTimeSpan, cancellationToken);

    /// <summary>
    /// Sets how long each lock that a statement of the context needs may be waited for, until the result is disposed: then it is as before.
    /// The context's connection is kept open so long.
    /// </summary>
    /// <param name="context">The context.</param>
    /// <param name="timeout">As for <see cref="NpgsqlConnectionExtensions.LockTimeout"/>.</param>
    /// <param name="trustPooler">As for <see cref="NpgsqlConnectionExtensions.LockTimeout"/>.</param>
    /// <exception cref="NotSupportedException">The context's provider is not Npgsql's.</exception>
    /// <exception cref="InvalidOperationException">The context's execution strategy retries, on sessions without the timeout.</exception>
    /// <inheritdoc cref="NpgsqlConnectionExtensions.LockTimeout" path="/exception"/>
    public static DbContextLockTimeout LockTimeout(this DbContext context, TimeSpan timeout, bool trustPooler = false) =>
        Completed(LockTimeout(context, timeout, trustPooler, async: false, CancellationToken.None));

    /// <inheritdoc cref="LockTimeout(DbContext, TimeSpan, bool)" path="/summary"/>
    /// <inheritdoc cref="LockTimeout(DbContext, TimeSpan, bool)" path="/exception"/>
    /// <param name="context">The context.</param>
    /// <param name="timeout">As for <see cref="NpgsqlConnectionExtensions.LockTimeout"/>.</param>
    /// <param name="trustPooler">As for <see cref="NpgsqlConnectionExtensions.LockTimeout"/>.</param>
    /// <param name="cancellationToken">Looked at before anything is set.</param>
    public static ValueTask<DbContextLockTimeout> LockTimeoutAsync(
        this DbContext context, TimeSpan timeout, bool trustPooler = false, CancellationToken cancellationToken = default) =>
        LockTimeout(context, timeout, trustPooler, async: true, cancellationToken);

    /// <summary>
    /// Clears the holders of whatever lock the context's session waits for, until the result is disposed. The context's connection is kept
    /// open so long, and a second one looks on.
    /// </summary>
    /// <param name="context">The context.</param>
    /// <param name="options">As for <see cref="PgPriorityExtensions.Prioritize"/>.</param>
    /// <exception cref="NotSupportedException">The context's provider is not Npgsql's.</exception>
    /// <exception cref="InvalidOperationException">The context's execution strategy retries, on sessions without the priority.</exception>
    /// <inheritdoc cref="PgPriorityExtensions.Prioritize" path="/exception"/>
    public static DbContextPriority Prioritize(this DbContext context, PgPriorityOptions? options = null) =>
        Completed(Prioritize(context, options, async: false, CancellationToken.None));

    /// <inheritdoc cref="Prioritize(DbContext, PgPriorityOptions?)" path="/summary"/>
    /// <inheritdoc cref="Prioritize(DbContext, PgPriorityOptions?)" path="/exception"/>
    /// <param name="context">The context.</param>
    /// <param name="options">As for <see cref="PgPriorityExtensions.Prioritize"/>.</param>
    /// <param name="cancellationToken">Cancels the opening of the connections, and nothing later.</param>
    public static ValueTask<DbContextPriority> PrioritizeAsync(
        this DbContext context, PgPriorityOptions? options = null, CancellationToken cancellationToken = default) =>
        Prioritize(context, options, async: true, cancellationToken);

    private static TableLock Create(DbContext context, PgLockMode mode, IEnumerable<Type> entities)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(entities);
        return KeptOpen.NpgsqlOf(context.Database, "A lock on tables").CreateTableLock(mode, EntityTables.Of(context, entities));
    }

    private static ValueTask<DbContextLockTimeout> LockTimeout(
        DbContext context, TimeSpan timeout, bool trustPooler, bool async, CancellationToken cancellationToken) =>
        Open(
            context,
            "A lock_timeout",
            async connection => async
                ? await connection.LockTimeoutAsync(timeout, trustPooler, cancellationToken).ConfigureAwait(false)
                : connection.LockTimeout(timeout, trustPooler),
            static (kept, scope) => new DbContextLockTimeout(kept, scope),
            async,
            cancellationToken);

    private static ValueTask<DbContextPriority> Prioritize(
        DbContext context, PgPriorityOptions? options, bool async, CancellationToken cancellationToken) =>
        Open(
            context,
            "Priority",
            async connection => async
                ? await connection.PrioritizeAsync(options, cancellationToken).ConfigureAwait(false)
                : connection.Prioritize(options),
            static (kept, priority) => new DbContextPriority(kept, priority),
            async,
            cancellationToken);

    private static async ValueTask<TResult> Open<T, TResult>(
        DbContext context, string what, Func<NpgsqlConnection, ValueTask<T>> open, Func<KeptOpen, T, TResult> keep, bool async,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(context);
        var connection = KeptOpen.NpgsqlOf(context.Database, what);
        var kept = new KeptOpen(context.Database);
        await kept.Open(async, cancellationToken).ConfigureAwait(false);
        try
        {
            return keep(kept, await open(connection).ConfigureAwait(false));
        }
        catch (Exception)
        {
            await kept.Close(async).ConfigureAwait(false);
            throw;
        }
    }
}
