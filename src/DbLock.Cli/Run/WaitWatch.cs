using System.Data.Common;
using System.Diagnostics;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>
/// While a lock is waited for, this tells who holds it, ever more rarely, and notices when the server has fallen silent.
/// </summary>
/// <remarks>
/// The waiting connection is busy, so each look opens a connection of its own. Whether that opens tells whether the server answers.
/// </remarks>
internal static class WaitWatch
{
    private static readonly TimeSpan[] Tellings =
    [
        TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(10), TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(10), TimeSpan.FromHours(1),
    ];
    private static readonly TimeSpan Look = TimeSpan.FromMinutes(1);

    /// <summary>How long an answer may take to come over a connection that works.</summary>
    private static readonly TimeSpan OnItsWay = TimeSpan.FromSeconds(5);

    /// <summary>Looks until it is told to stop, or until the wait has become vain.</summary>
    /// <param name="database">The database.</param>
    /// <param name="waiting">The session of the server that waits for us; 0 for a lease, for which none does.</param>
    /// <param name="key">The lock.</param>
    /// <param name="options">Its options.</param>
    /// <param name="say">Tells the user; null tells nothing.</param>
    /// <param name="stop">Ends it.</param>
    /// <returns>Why the wait is vain.</returns>
    public static async Task<string> SilenceAsync(
        Database database, long waiting, LockKey key, LockOptions options, Action<string>? say, CancellationToken stop)
    {
        var (start, told, unanswered, queued) = (Stopwatch.GetTimestamp(), 0, 0, default(Task));
        for (var next = Tellings[0]; ;)
        {
            var pause = next - Stopwatch.GetElapsedTime(start);
            await Task.Delay(pause > TimeSpan.Zero ? pause : TimeSpan.Zero, stop).ConfigureAwait(false);
            (var answers, var holders, queued) = await AskAsync(database, key, options, queued, stop).ConfigureAwait(false);
            unanswered = answers ? 0 : unanswered + 1;
            if (unanswered == 2)
            {
                return string.Create(CultureInfo.InvariantCulture, $"it has not answered for {2 * TrustWindow.Length.TotalSeconds} s");
            }

            if (holders?.Any(holder => holder.Session?.Id == waiting) == true)
            {
                await Task.Delay(OnItsWay, stop).ConfigureAwait(false);
                return "it has granted the lock, and the answer does not come";
            }

            var waited = Stopwatch.GetElapsedTime(start);
            if (waited >= Telling(told))
            {
                say?.Invoke(string.Create(
                    CultureInfo.InvariantCulture,
                    $"still waiting for '{key}', {Words(key, answers, holders)} ({Math.Floor(waited.TotalSeconds)} s so far)"));
                while (waited >= Telling(told))
                {
                    told++;
                }
            }

            next = unanswered > 0 ? waited : told == 1 ? Tellings[1] : waited + Look;
        }
    }

    /// <summary>Tells, ever more rarely, what is waited for, until it is told to stop.</summary>
    public static async Task TellAsync(string what, Action<string> say, CancellationToken stop)
    {
        var start = Stopwatch.GetTimestamp();
        for (var told = 0; ; told++)
        {
            await Task.Delay(Telling(told) - Stopwatch.GetElapsedTime(start), stop).ConfigureAwait(false);
            say(string.Create(
                CultureInfo.InvariantCulture,
                $"still waiting for {what} ({Math.Round(Stopwatch.GetElapsedTime(start).TotalSeconds)} s so far)"));
        }
    }

    private static TimeSpan Telling(int number) =>
        number < Tellings.Length ? Tellings[number] : Tellings[^1] * (number - Tellings.Length + 2);

    // One of those who wait is dblock itself, and is not counted.
    private static string Words(LockKey key, bool answers, LockHolders? holders) => holders is not null
        ? new LockHolders(key, holders, Math.Max(0, holders.Waiting - 1)).ToString()[$"'{key}' is ".Length..]
        : answers ? "held by somebody whom the server does not tell" : "and the server does not answer at this moment";

    // A pooler accepts a connection before it has a session for it, and keeps it until its question is answered. So only one question at a
    // time is in the pooler's queue, and meanwhile it is answer enough that a connection is accepted.
    private static async Task<(bool Answers, LockHolders? Holders, Task? Queued)> AskAsync(
        Database database, LockKey key, LockOptions options, Task? queued, CancellationToken stop)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
        limit.CancelAfter(TrustWindow.Length);
        var connection = default(DbConnection);
        var question = default(Task<LockHolders>);
        try
        {
            // The provider's own timeout is switched off, because its exception would look like an answer.
            connection = await database.WithoutTimeout().OpenAsync(limit.Token).ConfigureAwait(false);
            if (queued?.IsCompleted == false)
            {
                return (true, null, queued);
            }

            limit.CancelAfter(OnItsWay);
            question = new Lock(connection, key, database.Interface, options).GetHoldersAsync(CancellationToken.None).AsTask();
            return (true, await question.WaitAsync(limit.Token).ConfigureAwait(false), null);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            // If the connection was opened, the server has answered.
            return (connection is not null, null, options.TrustPooler ? question : null);
        }
        catch (Exception e) when (e is UnavailableException or DbException or LockException or InvalidOperationException)
        {
            // There is no room for one more session, or no right to look. Either is an answer.
            return (true, null, null);
        }
        finally
        {
            _ = question is { IsCompleted: false } && options.TrustPooler
                ? question.ContinueWith(_ => Closing.Begin(connection), TaskScheduler.Default)
                : Closing.Begin(connection);
        }
    }
}
