using System.ComponentModel;
using System.Data.Common;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>Runs the command of <c>dblock run</c> while the lock is held, and lets go of the lock afterwards.</summary>
internal sealed class LockedCommand(RunJob job, IRunHold hold, Action<string> say)
{
    private static readonly TimeSpan Unwatched = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan ReleaseLimit = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan LeftoversTold = TimeSpan.FromSeconds(2);

    /// <summary>Runs the command.</summary>
    /// <param name="files">The program, or else the next of them (<see cref="Child.Start"/>).</param>
    /// <param name="signals">The signals that go on to the command.</param>
    /// <returns>The exit code of dblock.</returns>
    public async Task<int> RunAsync(IReadOnlyList<string> files, Signals signals)
    {
        var environment = CommandEnvironment.Variables(job, hold);

        // Much may have happened since the grant, if the answer was long on its way or this process was stopped.
        if (await hold.ConfirmAsync().ConfigureAwait(false) is { } lost)
        {
            say($"lock '{job.Name}' was lost before the command was started, and it is not started: {lost}");
            return ExitCode.Lost;
        }

        signals.First.ThrowIfCancellationRequested();
        Child child;
        try
        {
            child = Child.Start(files, job.Words, environment);
        }
        catch (Win32Exception e)
        {
            say($"{Given.Text(job.Words[0])}: {ProgramFile.ReasonOf(e)}");
            return ProgramFile.ExitCodeOf(e);
        }

        var end = job.Close ? child.ExitAsync() : child.EndAsync(daemons: false);
        signals.ForwardTo(child.Forward);
        _ = TellLeftoversAsync(child, end);

        // The watch costs more than a short command does, and begins only after a moment. The release notices a loss before that.
        await Task.WhenAny(end, Task.Delay(Unwatched)).ConfigureAwait(false);
        using var stop = new CancellationTokenSource();
        var loss = end.IsCompleted ? Task.FromResult<string?>(null) : hold.LossAsync(stop.Token);
        if (await Task.WhenAny(end, loss).ConfigureAwait(false) == loss && await loss.ConfigureAwait(false) is { } reason)
        {
            return await EndLostAsync(child, end, reason).ConfigureAwait(false);
        }

        await stop.CancelAsync().ConfigureAwait(false);
        var code = await end.ConfigureAwait(false);
        if (job.Verbose)
        {
            say(string.Create(CultureInfo.InvariantCulture, $"the command ended with {code}"));
        }

        var (isLost, failure) = await ReleaseAsync(loss).ConfigureAwait(false);
        if (failure is not null)
        {
            say(failure);
        }

        return isLost && job.WhenLost != WhenLost.Ignore ? ExitCode.Lost : code;
    }

    /// <summary>Lets go of the lock.</summary>
    /// <returns>Whether it was lost before, and why it could not be released; null when it was.</returns>
    private async Task<(bool IsLost, string? Failure)> ReleaseAsync(Task<string?> loss)
    {
        try
        {
            if (await loss.WaitAsync(ReleaseLimit).ConfigureAwait(false) is { } reason)
            {
                return (true, $"lock '{job.Key}' was lost while the command ran, and others may have held it: {reason}");
            }

            await hold.ReleaseAsync().WaitAsync(ReleaseLimit).ConfigureAwait(false);
            return (false, null);
        }
        catch (TimeoutException)
        {
            return (
                false,
                $"the server does not answer the release of lock '{job.Key}': its connection is closed, and the lock ends when the "
                + "server notices that");
        }
        catch (Exception e) when (e is LockException or DbException or IOException or InvalidOperationException)
        {
            return (true, e.Message);
        }
    }

    /// <summary>Ends the command, or lets it run on, as the user wants it when the lock is lost.</summary>
    private async Task<int> EndLostAsync(Child child, Task<int> end, string reason)
    {
        // The command is told to end before the user is told why. If it is stopped (SIGSTOP), it must go on to hear of it.
        if (job.WhenLost == WhenLost.Terminate)
        {
            child.Send(Unix.Sigterm);
            child.Send(Unix.Sigcont);
        }

        say($"lock '{job.Name}' is lost while the command runs, and others may hold it: {reason}");
        if (job.WhenLost == WhenLost.Ignore)
        {
            return await end.ConfigureAwait(false);
        }

        var allEnded = child.EndAsync(daemons: true);
        if (job.WhenLost == WhenLost.Terminate && await Task.WhenAny(allEnded, Task.Delay(job.Grace)).ConfigureAwait(false) != allEnded)
        {
            say(string.Create(
                CultureInfo.InvariantCulture,
                $"the command, or what it has started, has not ended within {job.Grace.TotalSeconds:0.###} s, and is killed"));
        }

        if (await child.KillAsync().ConfigureAwait(false) is { } alive)
        {
            say($"what the command has started could not be killed, and runs on: {Names(alive)}");
        }

        return ExitCode.Lost;
    }

    private async Task TellLeftoversAsync(Child child, Task<int> end)
    {
        await child.ExitAsync().ConfigureAwait(false);
        IReadOnlyList<int> pids = [];

        // Who has just ended is not seen any more, and the end is seen a moment later. Who is hidden is not seen the next time, either.
        for (var look = 0; look < 2 && pids.Count == 0; look++)
        {
            if (job.Quiet || end.IsCompleted || await Task.WhenAny(end, Task.Delay(LeftoversTold)).ConfigureAwait(false) == end)
            {
                return;
            }

            pids = [.. child.Tree().Where(process => !process.IsDaemon).Select(process => process.Pid)];
        }

        say($"the command has ended, and lock '{job.Name}' is held until what it has left running ends: {Names(pids)} (see --close)");
    }

    private static string Names(IReadOnlyCollection<int> pids) => pids.Count == 0
        ? "processes that /proc does not show to dblock"
        : string.Join(", ", pids.Take(3).Select(pid => string.Create(CultureInfo.InvariantCulture, $"{Proc.NameOf(pid)} (pid {pid})")));
}
