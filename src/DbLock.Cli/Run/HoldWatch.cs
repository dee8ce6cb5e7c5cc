using System.Data;
using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace DbLock.Cli;

/// <summary>Notices that a lock is lost whose connection does nothing else.</summary>
/// <param name="connection">The connection.</param>
/// <param name="lock">The lock.</param>
/// <param name="asked">When the question was sent (<see cref="Stopwatch.GetTimestamp"/>) whose answer says that it is held.</param>
internal sealed class HoldWatch(NpgsqlConnection connection, Lock @lock, long asked)
{
    // The end of a session comes as a message or as the end of the connection, and is noticed at once. A silent network is noticed by the
    // question that is not answered.
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(2);

    // What was stopped itself (SIGSTOP, Ctrl-Z) could not hear: the server is asked once more before the command pays for it.
    private static readonly TimeSpan AfterStop = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(500);

    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(200);

    private long _confirmed = asked;

    /// <summary>Asks the server once more, if it was not asked this very moment: before something is started on its answer.</summary>
    /// <returns>Null when it holds the lock for us, else why the lock is lost.</returns>
    public async Task<string?> ConfirmAsync()
    {
        var reason = default(string);
        for (var limit = Moment; reason is null && Stopwatch.GetElapsedTime(_confirmed) > limit; limit = LockWatch.Trust)
        {
            // Nothing runs yet that could do harm, so that a slow server has all the time.
            reason = await AskAsync(LockWatch.Trust).ConfigureAwait(false);
        }

        return reason;
    }

    /// <summary>Watches until it is told to stop, or until the lock is lost.</summary>
    /// <returns>Null when it was told to stop, else why the lock is lost.</returns>
    /// <remarks>A question that is not answered is left behind with its connection, of which nothing may be asked any more.</remarks>
    public async Task<string?> LossAsync(CancellationToken stop)
    {
        while (true)
        {
            try
            {
                await connection.WaitAsync(Heartbeat, stop).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return null;
            }
            catch (Exception e) when (e is NpgsqlException or IOException or InvalidOperationException)
            {
                return (e.InnerException ?? e).Message;
            }

            if (await AskAsync(AfterStop).ConfigureAwait(false) is { } reason)
            {
                return reason;
            }
        }
    }

    private async Task<string?> AskAsync(TimeSpan least)
    {
        var sent = Stopwatch.GetTimestamp();
        var question = @lock.Confirm(async: true).AsTask();
        if (!await IsAnsweredAsync(question, least).ConfigureAwait(false))
        {
            return string.Create(CultureInfo.InvariantCulture, $"the server has not answered for {LockWatch.Trust.TotalSeconds} s");
        }

        try
        {
            if (await question.ConfigureAwait(false))
            {
                _confirmed = sent;
                return null;
            }
        }
        catch (Exception e) when (e is NpgsqlException or IOException or InvalidOperationException)
        {
            return (e.InnerException ?? e).Message;
        }

        return connection.State == ConnectionState.Open
            ? "the server says that this session does not hold it" : "the connection to the server has ended";
    }

    private async Task<bool> IsAnsweredAsync(Task question, TimeSpan least)
    {
        var patience = Max(LockWatch.Trust - Stopwatch.GetElapsedTime(_confirmed), least);
        for (var start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start) < patience;)
        {
            var tick = Stopwatch.GetTimestamp();
            if (await Task.WhenAny(question, Task.Delay(Tick)).ConfigureAwait(false) == question)
            {
                return true;
            }

            if (Stopwatch.GetElapsedTime(tick) > Tick + AfterStop)
            {
                patience = Max(patience, Stopwatch.GetElapsedTime(start) + AfterStop);
            }
        }

        return question.IsCompleted;
    }

    private static TimeSpan Max(TimeSpan one, TimeSpan other) => one > other ? one : other;
}
