using System.Diagnostics;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>Waits for the answers of a server that may have fallen silent.</summary>
internal static class ServerAnswer
{
    private static readonly TimeSpan LastLook = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan Late = TimeSpan.FromMilliseconds(100);

    /// <summary>Waits for an answer, no longer than a limit, and no longer than a second after a signal.</summary>
    /// <returns>The answer.</returns>
    /// <exception cref="UnavailableException">
    /// The server has not answered in time. The question is left behind with its connection, of which nothing may be asked any more.
    /// </exception>
    public static async Task<T> WithinAsync<T>(Task<T> asked, TimeSpan limit, CancellationToken signal)
    {
        var start = Stopwatch.GetTimestamp();
        using var end = new CancellationTokenSource(limit);
        using var hurry = signal.Register(() => end.CancelAfter(RunLimit.OnTheWay));
        try
        {
            return await asked.WaitAsync(end.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (end.IsCancellationRequested)
        {
            signal.ThrowIfCancellationRequested();

            // Where the machine had no time for the clock, it had none for the answer either, which may lie there unread.
            var isLate = Stopwatch.GetElapsedTime(start) > limit + Late;
            await ((Task)asked).WaitAsync(isLate ? RunLimit.OnTheWay : LastLook, CancellationToken.None)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (asked.IsCompleted)
            {
                return await asked.ConfigureAwait(false);
            }

            throw new UnavailableException(
                string.Create(CultureInfo.InvariantCulture, $"the server has not answered within {limit.TotalSeconds:0.###} s"));
        }
    }
}
