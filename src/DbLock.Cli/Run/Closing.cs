using System.Data.Common;

namespace DbLock.Cli;

/// <summary>Closes connections without waiting for a server that may be silent.</summary>
internal static class Closing
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    /// <summary>Begins to close one. What is not closed when dblock ends is closed by the system.</summary>
    /// <returns>A task that ends when it is closed, or after a second.</returns>
    public static async Task Begin(DbConnection? connection)
    {
        if (connection is null)
        {
            return;
        }

        // It runs on a thread of its own, because Close may block on a connection that waits for an answer.
        await Task.Factory.StartNew(connection.Close, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)
            .WaitAsync(Limit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }
}
