using System.ComponentModel;
using System.Diagnostics;

namespace DbLock.Cli;

/// <summary>
/// The command that runs under the lock, and all that it starts: no shell, the same terminal, the same process group, the same standard
/// streams.
/// </summary>
internal sealed class Child
{
    private const string Shell = "/bin/sh";

    // dblock is not told when a process ends that is not its child, or becomes a daemon: it looks at these intervals.
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan KillLook = TimeSpan.FromMilliseconds(1);

    // SIGKILL takes effect at once, but for a process that waits for a disk or is another user's.
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(10);

    private readonly int _pid;
    private readonly HashSet<int> _strangers;
    private readonly TaskCompletionSource<int> _exit = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _childless = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Child(int pid, HashSet<int> strangers) => (_pid, _strangers) = (pid, strangers);

    /// <summary>Starts a command.</summary>
    /// <param name="files">The program, or else the next of them, as execvp goes on.</param>
    /// <param name="words">Its name and arguments; each char is a byte (<see cref="Given"/>).</param>
    /// <param name="environment">What its environment has beyond dblock's own, or, with null, has not.</param>
    /// <exception cref="Win32Exception">The system refuses.</exception>
    public static Child Start(
        IReadOnlyList<string> files, IReadOnlyList<string> words, IReadOnlyList<(string Name, string? Value)> environment)
    {
        Unix.AdoptOrphans();
        string[] variables =
        [
            .. Given.Variables.Where(variable => !environment.Any(changed =>
                variable.StartsWith($"{changed.Name}=", StringComparison.Ordinal))),
            .. environment.Where(changed => changed.Value is not null).Select(changed => Given.Bytes($"{changed.Name}={changed.Value}")),
        ];

        // A program that had children may have become dblock by exec: those are not the command's.
        HashSet<int> strangers = HasChildren()
            ? [.. Proc.All().Where(process => process.Value.Parent == Environment.ProcessId).Select(process => process.Key)]
            : [];
        var (error, pid) = (Unix.NoSuchFile, 0);
        foreach (var file in files)
        {
            error = Unix.Start(file, words, variables, out pid);
            if (error == Unix.NoProgram)
            {
                // A script without #! is run by the shell, as execvp does: https://man7.org/linux/man-pages/man3/exec.3.html
                error = Unix.Start(Shell, [Shell, file, .. words.Skip(1)], variables, out pid);
            }

            if (error != Unix.NoAccess && !ProgramFile.IsMissing(error))
            {
                break;
            }
        }

        var child = error == 0 ? new Child(pid, strangers) : throw new Win32Exception(error);
        new Thread(child.Reap) { IsBackground = true, Name = "children" }.Start();
        return child;
    }

    /// <summary>
    /// Forwards a signal: one that ends programs to the command and all that it has started, any other to the command alone.
    /// </summary>
    /// <remarks>The terminal sends its own signals to all of them itself; those are not forwarded.</remarks>
    public void Forward(int signal)
    {
        if (signal is Unix.Sigint or Unix.Sigquit && Unix.IsInForeground())
        {
            return;
        }

        if (signal is Unix.Sighup or Unix.Sigint or Unix.Sigquit or Unix.Sigterm)
        {
            Send(signal);
        }
        else if (!_exit.Task.IsCompleted)
        {
            Unix.Send(_pid, signal);
        }
    }

    /// <summary>Sends a signal to the command and to all that it has started and that lives, parents first.</summary>
    public void Send(int signal)
    {
        // A process group whose leader is one of them is signalled as a whole, so that a process that joins it in this moment gets the
        // signal, too.
        var tree = Tree().Select(process => process.Pid).ToHashSet();
        var groups = new HashSet<int>();
        foreach (var pid in tree)
        {
            if (Proc.GroupOf(pid) is not { } group || !tree.Contains(group))
            {
                Unix.Send(pid, signal);
            }
            else if (groups.Add(group))
            {
                Unix.Send(-group, signal);
            }
        }
    }

    /// <summary>Waits for the end of the command itself.</summary>
    /// <returns>Its exit code; 128 and the number of the signal that ended it.</returns>
    public Task<int> ExitAsync() => _exit.Task;

    /// <summary>Waits for the end of the command and of all that it has started.</summary>
    /// <param name="daemons">
    /// Whether those are waited for as well that have made themselves daemons: with a session of their own, and without their parent.
    /// </param>
    /// <returns>The exit code of the command.</returns>
    public async Task<int> EndAsync(bool daemons)
    {
        var code = await _exit.Task.ConfigureAwait(false);
        while (!_childless.Task.IsCompleted && IsAnyLeft(Tree()))
        {
            await Task.WhenAny(_childless.Task, Task.Delay(Look)).ConfigureAwait(false);
        }

        return code;

        bool IsAnyLeft(IReadOnlyList<(int Pid, bool IsDaemon)> tree) =>
            tree.Any(process => daemons || !process.IsDaemon) || (tree.Count == 0 && IsAlone);
    }

    /// <summary>Kills the command and all that it has started.</summary>
    /// <returns>Null when nobody is left; else those that could not be killed, none of them when they cannot be seen.</returns>
    public async Task<IReadOnlyList<int>?> KillAsync()
    {
        var start = Stopwatch.GetTimestamp();
        while (!_childless.Task.IsCompleted && QuickTree() is var tree && (tree.Count > 0 || IsAlone))
        {
            if (Stopwatch.GetElapsedTime(start) > KillLimit)
            {
                return [.. tree.Select(process => process.Pid)];
            }

            // All are stopped first, until no new one is found, because a process that is stopped starts no other.
            var stopped = new HashSet<int>();
            for (var isNew = true; isNew && Stopwatch.GetElapsedTime(start) < KillLimit; tree = QuickTree())
            {
                isNew = false;
                foreach (var process in tree)
                {
                    isNew |= stopped.Add(process.Pid) && Unix.Send(process.Pid, Unix.Sigstop);
                }
            }

            foreach (var process in tree)
            {
                Unix.Send(process.Pid, Unix.Sigkill);
            }

            await Task.WhenAny(_childless.Task, Task.Delay(KillLook)).ConfigureAwait(false);
        }

        return null;
    }

    /// <summary>Gets the command and all that it has started and that lives, parents first, as far as /proc shows them.</summary>
    public IReadOnlyList<(int Pid, bool IsDaemon)> Tree() => Tree(Proc.All);

    // Who starts another and ends at once is gone before all processes of the machine have been looked at.
    private List<(int Pid, bool IsDaemon)> QuickTree() => Tree(static () => Proc.Below(Environment.ProcessId));

    private List<(int Pid, bool IsDaemon)> Tree(Func<Dictionary<int, (int Parent, int Session)>> look)
    {
        if (!Proc.IsOurs)
        {
            return _exit.Task.IsCompleted ? [] : [(_pid, false)];
        }

        // A process whose parent has ended is a child of dblock (Unix.AdoptOrphans), and so is in the tree.
        var all = look();
        var session = all.TryGetValue(Environment.ProcessId, out var own) ? own.Session : 0;
        var tree = new List<(int Pid, bool IsDaemon)>();
        tree.AddRange(all.Where(process => process.Value.Parent == Environment.ProcessId && !_strangers.Contains(process.Key))
            .Select(process => (process.Key, process.Key != _pid && process.Value.Session != session)));
        for (var i = 0; i < tree.Count; i++)
        {
            tree.AddRange(all.Where(process => process.Value.Parent == tree[i].Pid).Select(process => (process.Key, tree[i].IsDaemon)));
        }

        // A process of another user may be hidden (hidepid): https://man7.org/linux/man-pages/man5/proc.5.html
        if (!all.ContainsKey(_pid) && !_exit.Task.IsCompleted)
        {
            tree.Insert(0, (_pid, false));
        }

        return tree;
    }

    // Reading /proc takes its time, and each look may miss a process that starts itself again and ends. Only the system can say that
    // nobody is left, and it says so of all children of dblock together.
    private bool IsAlone => OperatingSystem.IsLinux() && _strangers.Count == 0;

    private static bool HasChildren()
    {
        int pid;
        bool has;
        do
        {
            has = Unix.Wait(wait: false, out pid, out _);
        }
        while (has && pid != 0);
        return has;
    }

    private void Reap()
    {
        while (Unix.Wait(wait: true, out var pid, out var exitCode))
        {
            if (pid == _pid)
            {
                if (!HasChildren())
                {
                    _childless.SetResult();
                    _exit.SetResult(exitCode);
                    return;
                }

                _exit.SetResult(exitCode);
            }
        }

        _childless.SetResult();
    }
}
