using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;

namespace DbLock;

/// <summary>Migrates a database under a lock.</summary>
internal static class Migrating
{
    public static async Task<bool> Migrate(DatabaseFacade database, MigrateUnderLockOptions options, CancellationToken cancellationToken)
    {
        var context = ((IDatabaseFacadeDependenciesAccessor)database).Context;
        var creator = database.GetService<IRelationalDatabaseCreator>();
        await CreateDatabase(creator, cancellationToken).ConfigureAwait(false);

        using var source = new ContextDataSource(database);
        var held = await source.TryAcquireLockAsync(
            options.Key ?? $"migrate:{context.GetType().FullName}",
            options.Timeout ?? Timeout.InfiniteTimeSpan,
            options: new LockOptions { Wait = LockWait.Yielding, Logger = options.Logger },
            cancellationToken: cancellationToken).ConfigureAwait(false);
        if (held is null)
        {
            return false;
        }

        await using (held.ConfigureAwait(false))
        {
            using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, held.Lost);
            try
            {
                await Migrate(context, options, end.Token).ConfigureAwait(false);
            }
            catch (Exception) when (held.Lost.IsCancellationRequested)
            {
                held.ThrowIfLost();
                throw;
            }

            await held.ReleaseAsync().ConfigureAwait(false);
            return true;
        }
    }

    // MigrateAsync creates a missing database by itself, but the lock needs one to be in. Another instance may create it first.
    private static async Task CreateDatabase(IRelationalDatabaseCreator creator, CancellationToken cancellationToken)
    {
        if (!await creator.ExistsAsync(cancellationToken).ConfigureAwait(false))
        {
            try
            {
                await creator.CreateAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (DbException)
            {
                if (!await creator.ExistsAsync(cancellationToken).ConfigureAwait(false))
                {
                    throw;
                }
            }
        }
    }

    // Whether a strategy retries does not matter here: the lock is on a connection of its own, and each migration is done once.
    private static async Task Migrate(DbContext context, MigrateUnderLockOptions options, CancellationToken cancellationToken)
    {
        if (options is { Priority: null, LockTimeout: null })
        {
            await context.Database.MigrateAsync(cancellationToken).ConfigureAwait(false);
            return;
        }

        await context.Database.CreateExecutionStrategy().ExecuteAsync(
            async token =>
            {
                DbContextLockTimeout? timeout = null;
                DbContextPriority? priority = null;
                try
                {
                    if (options.LockTimeout is { } wait)
                    {
                        timeout = await context.LockTimeoutAsync(wait, cancellationToken: token).ConfigureAwait(false);
                    }

                    if (options.Priority is { } clearing)
                    {
                        priority = await context.PrioritizeAsync(clearing, token).ConfigureAwait(false);
                    }

                    await context.Database.MigrateAsync(token).ConfigureAwait(false);
                }
                finally
                {
                    if (priority is not null)
                    {
                        await priority.DisposeAsync().ConfigureAwait(false);
                    }

                    if (timeout is not null)
                    {
                        await timeout.DisposeAsync().ConfigureAwait(false);
                    }
                }
            },
            cancellationToken).ConfigureAwait(false);
    }
}
