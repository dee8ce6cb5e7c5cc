using Npgsql;

namespace DbLock.Cli;

/// <summary>Notices that a lock is lost whose connection does nothing else.</summary>
internal static class HoldWatch
{
    // The end of a session comes as a message or as the end of the connection, and is noticed at once. A silent network is noticed by the question that is not answered.
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(5);

    /// <summary>How long an answer may take, in seconds.</summary>
    public const int AnswerTimeout = 5;

    /// <summary>Watches until it is told to stop, or until the lock is lost.</summary>
    /// <returns>Null when it was told to stop, else why the lock is lost.</returns>
    public static async Task<string?> LossAsync(NpgsqlConnection connection, Lock @lock, CancellationToken stop)
    {
        try
        {
            while (true)
            {
                await connection.WaitAsync(Heartbeat, stop).ConfigureAwait(false);
                if (!(await @lock.GetHoldersAsync(CancellationToken.None).ConfigureAwait(false)).Any(holder => holder.Session is { IsOwn: true }))
                {
                    return "the server says that this session does not hold it";
                }
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return null;
        }
        catch (Exception e) when (e is NpgsqlException or IOException or TimeoutException or InvalidOperationException)
        {
            return (e.InnerException ?? e).Message;
        }
    }
}
