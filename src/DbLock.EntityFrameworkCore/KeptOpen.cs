using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace DbLock;

/// <summary>A context's connection, which is kept open from <see cref="Open"/> to <see cref="Close"/>.</summary>
/// <remarks>
/// The context opens its connection for each operation and closes it after that; it counts who wants it open, so that each opening needs
/// its own closing.
/// </remarks>
internal sealed class KeptOpen(DatabaseFacade database)
{
    private bool _isOpened;

    /// <summary>Opens the connection, unless it was opened here before.</summary>
    /// <exception cref="InvalidOperationException">The context would open it anew by itself.</exception>
    public async ValueTask Open(bool async, CancellationToken cancellationToken)
    {
        if (_isOpened)
        {
            return;
        }

        if (database.CreateExecutionStrategy() is { RetriesOnFailure: true } strategy)
        {
            throw new InvalidOperationException(
                $"The context's execution strategy ({strategy.GetType().Name}) retries what has failed on a new session, which no longer "
                + "has what is asked for here: run all of it, from the lock to the last statement under it, in "
                + "context.Database.CreateExecutionStrategy().ExecuteAsync(…), which retries it as a whole; or take a lock on a connection "
                + "of its own (context.Database.AcquireLockAsync).");
        }

        if (async)
        {
            await database.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        }
        else
        {
            database.OpenConnection();
        }

        _isOpened = true;
    }

    /// <summary>Lets the context close its connection, if it was opened here.</summary>
    public async ValueTask Close(bool async)
    {
        if (!_isOpened)
        {
            return;
        }

        _isOpened = false;
        try
        {
            if (async)
            {
                await database.CloseConnectionAsync().ConfigureAwait(false);
            }
            else
            {
                database.CloseConnection();
            }
        }
        catch (Exception)
        {
            // The context was disposed before, or the connection is broken, and closed with that.
        }
    }

    /// <summary>Returns the context's connection to PostgreSQL.</summary>
    /// <exception cref="NotSupportedException">It is another provider's.</exception>
    public static NpgsqlConnection NpgsqlOf(DatabaseFacade database, string what)
    {
        var connection = database.GetDbConnection();
        return connection as NpgsqlConnection ?? throw new NotSupportedException(
            $"{what} is PostgreSQL's, over Npgsql's provider, and this context's connection is a {connection.GetType().FullName}: use "
            + "context.Database.CreateLock, which works on every database that DbLock knows.");
    }
}
