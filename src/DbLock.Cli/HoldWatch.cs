using System.Data;
using Npgsql;

namespace DbLock.Cli;

/// <summary>Notices that a lock is lost whose connection does nothing else.</summary>
internal static class HoldWatch
{
    // The end of a session comes as a message or as the end of the connection, and is noticed at once. A silent network is noticed by the question that is not answered.
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Answer = TimeSpan.FromSeconds(5);

    /// <summary>Watches until it is told to stop, or until the lock is lost.</summary>
    /// <returns>Null when it was told to stop, else why the lock is lost.</returns>
    public static async Task<string?> LossAsync(NpgsqlConnection connection, Lock @lock, CancellationToken stop)
    {
        while (true)
        {
            try
            {
                await connection.WaitAsync(Heartbeat, stop).ConfigureAwait(false);
                if (!(await @lock.GetHoldersAsync(CancellationToken.None).AsTask().WaitAsync(Answer, CancellationToken.None).ConfigureAwait(false)).Any(holder => holder.Session is { IsOwn: true }))
                {
                    return "the server says that this session does not hold it";
                }
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return null;
            }
            catch (PostgresException) when (connection.State == ConnectionState.Open)
            {
                // It answers, and lives: the question was cancelled by somebody, or cannot be asked. The end of the session is noticed all the same.
            }
            catch (TimeoutException)
            {
                return "the server does not answer";
            }
            catch (Exception e) when (e is NpgsqlException or IOException or InvalidOperationException)
            {
                return (e.InnerException ?? e).Message;
            }
        }
    }
}
