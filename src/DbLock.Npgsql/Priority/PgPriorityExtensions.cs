using Npgsql;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>Gives a session priority over those who hold what it waits for.</summary>
public static class PgPriorityExtensions
{
    /// <summary>
    /// Clears the holders of whatever lock this connection's session waits for (on a table, a row, an advisory lock), until the result is
    /// disposed. It looks on over a second connection, which is opened here.
    /// </summary>
    /// <param name="connection">The open connection that is to be let through.</param>
    /// <param name="options">
    /// Which holders, what is done to them, how often it is looked; null terminates all but superusers', looking every second.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">
    /// The interval is not between ten milliseconds and a day, or the grace not between zero and a day.
    /// </exception>
    /// <exception cref="LockException">A pooler stands between, so that the server's session is not this connection's.</exception>
    /// <exception cref="InvalidOperationException">The connection is not open.</exception>
    public static PgPriority Prioritize(this NpgsqlConnection connection, PgPriorityOptions? options = null) =>
        Completed(PgPriority.Start(connection, options, async: false, CancellationToken.None));

    /// <inheritdoc cref="Prioritize"/>
    /// <remarks><b>Cancellation.</b> The token cancels the opening of the second connection, and nothing later.</remarks>
    public static Task<PgPriority> PrioritizeAsync(
        this NpgsqlConnection connection, PgPriorityOptions? options = null, CancellationToken cancellationToken = default) =>
        PgPriority.Start(connection, options, async: true, cancellationToken).AsTask();
}
