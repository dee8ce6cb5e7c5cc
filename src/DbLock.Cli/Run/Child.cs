using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace DbLock.Cli;

/// <summary>
/// The command that runs under the lock, and all that it starts: no shell, the same terminal, the same process group, the same standard
/// streams.
/// </summary>
internal sealed class Child
{
    private const string Shell = "/bin/sh";

    // What ends without being our child, or becomes a daemon, tells nobody.
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan KillLook = TimeSpan.FromMilliseconds(1);

    // SIGKILL takes effect at once, but for a process that waits for a disk or is another user's.
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(10);

    // The /proc of another namespace has other numbers, which would be those of strangers here:
    // https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
    private static readonly bool SeesProcesses = OperatingSystem.IsLinux()
        && new FileInfo("/proc/self").LinkTarget == Environment.ProcessId.ToString(CultureInfo.InvariantCulture);

    private readonly int _pid;
    private readonly HashSet<int> _strangers;
    private readonly TaskCompletionSource<int> _exit = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _childless = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Child(int pid, HashSet<int> strangers) => (_pid, _strangers) = (pid, strangers);

    /// <summary>Finds a program as execvp does; .NET would look in its own folder and in the current one first.</summary>
    /// <param name="program">The program; each char is a byte (<see cref="Given"/>).</param>
    /// <returns>The files that may be executed, best first; when there are none, the exit code of the failure.</returns>
    public static (IReadOnlyList<string> Files, int ExitCode) Find(string program)
    {
        if (program.Length == 0)
        {
            return ([], ExitCode.NoSuchCommand);
        }

        // A path stays as it is: what link/.. is, the system decides.
        var folders = (
            Given.Variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").Split(':').Select(folder => folder.Length == 0 ? "." : folder);
        string[] files = program.Contains('/', StringComparison.Ordinal) ? [program] : [.. folders.Select(folder => $"{folder}/{program}")];
        var errors = files.ToLookup(Unix.CanExecute);
        return ([.. errors[0]], errors.All(error => IsMissing(error.Key)) ? ExitCode.NoSuchCommand : ExitCode.CannotExecute);
    }

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
            .. Given.Variables.Where(
                variable => !environment.Any(changed => variable.StartsWith($"{changed.Name}=", StringComparison.Ordinal))),
            .. environment.Where(changed => changed.Value is not null).Select(changed => Given.Bytes($"{changed.Name}={changed.Value}")),
        ];

        // Who has become dblock by exec may have children of its own.
        HashSet<int> strangers = HasChildren()
            ? [.. Processes().Where(process => process.Value.Parent == Environment.ProcessId).Select(process => process.Key)] : [];
        var (error, pid) = (Unix.NoSuchFile, 0);
        foreach (var file in files)
        {
            error = Unix.Start(file, words, variables, out pid);
            if (error == Unix.NoProgram)
            {
                // A script without #!, of which execvp and every shell think so: https://man7.org/linux/man-pages/man3/exec.3.html
                error = Unix.Start(Shell, [Shell, file, .. words.Skip(1)], variables, out pid);
            }

            if (error != Unix.NoAccess && !IsMissing(error))
            {
                break;
            }
        }

        var child = error == 0 ? new Child(pid, strangers) : throw new Win32Exception(error);
        new Thread(child.Reap) { IsBackground = true, Name = "children" }.Start();
        return child;
    }

    /// <summary>Returns the exit code for a command that the system refuses to start.</summary>
    public static int ExitCodeOf(Win32Exception error) =>
        IsMissing(error.NativeErrorCode) ? ExitCode.NoSuchCommand : ExitCode.CannotExecute;

    /// <summary>Returns why the system refuses to start a command whose file is there.</summary>
    public static string ReasonOf(Win32Exception error) => IsMissing(error.NativeErrorCode)
        ? "the interpreter that it names is not there"
        : Marshal.GetPInvokeErrorMessage(error.NativeErrorCode);

    /// <summary>
    /// Forwards a signal: what ends programs goes to all that the command has started, what means something to one of them to the command
    /// alone.
    /// </summary>
    /// <remarks>What comes from the terminal has come to them already.</remarks>
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
        // A process group of theirs is signalled at once, so that what one of it starts in this moment hears it, too.
        var tree = Tree().Select(process => process.Pid).ToHashSet();
        var groups = new HashSet<int>();
        foreach (var pid in tree)
        {
            if (Stat($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}") is not { Group: var group } || !tree.Contains(group))
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
        while (!_childless.Task.IsCompleted && Tree() is var tree && (tree.Any(process => daemons || !process.IsDaemon) || (tree.Count == 0 && IsAlone)))
        {
            await Task.WhenAny(_childless.Task, Task.Delay(Look)).ConfigureAwait(false);
        }

        return code;
    }

    /// <summary>Kills the command and all that it has started.</summary>
    /// <returns>Null when nobody is left; else those that could not be killed, none of them when they cannot be seen.</returns>
    public async Task<IReadOnlyList<int>?> KillAsync()
    {
        var start = Stopwatch.GetTimestamp();
        while (!_childless.Task.IsCompleted && Tree() is var tree && (tree.Count > 0 || IsAlone))
        {
            if (Stopwatch.GetElapsedTime(start) > KillLimit)
            {
                return [.. tree.Select(process => process.Pid)];
            }

            // Stopped first, until there is nobody new: what is stopped starts nothing more.
            var stopped = new HashSet<int>();
            for (var isNew = true; isNew && Stopwatch.GetElapsedTime(start) < KillLimit; tree = Tree())
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
    public IReadOnlyList<(int Pid, bool IsDaemon)> Tree()
    {
        if (!SeesProcesses)
        {
            return _exit.Task.IsCompleted ? [] : [(_pid, false)];
        }

        // An orphan of theirs is our child.
        var all = Processes();
        var session = all.TryGetValue(Environment.ProcessId, out var own) ? own.Session : 0;
        var tree = new List<(int Pid, bool IsDaemon)>();
        tree.AddRange(all.Where(process => process.Value.Parent == Environment.ProcessId && !_strangers.Contains(process.Key))
            .Select(process => (process.Key, process.Key != _pid && process.Value.Session != session)));
        for (var i = 0; i < tree.Count; i++)
        {
            tree.AddRange(all.Where(process => process.Value.Parent == tree[i].Pid).Select(process => (process.Key, tree[i].IsDaemon)));
        }

        // Another user's may be hidden (hidepid): https://man7.org/linux/man-pages/man5/proc.5.html
        if (!all.ContainsKey(_pid) && !_exit.Task.IsCompleted)
        {
            tree.Insert(0, (_pid, false));
        }

        return tree;
    }

    /// <summary>Returns the name of a process; empty when it is gone or hidden.</summary>
    public static string NameOf(int pid)
    {
        if (!SeesProcesses)
        {
            return "";
        }

        try
        {
            return File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/comm")).TrimEnd('\n');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    // Who starts itself again and ends may be missed by each look at /proc, which takes its time: that nobody is left only the system can
    // say, and only of all our children.
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

    private static bool IsMissing(int error) => error is Unix.NoSuchFile or Unix.NoFolder;

    // Those that have ended and are not yet collected are left out.
    private static Dictionary<int, (int Parent, int Session)> Processes()
    {
        var all = new Dictionary<int, (int Parent, int Session)>();
        foreach (var folder in Directory.Exists("/proc/self") ? Directory.EnumerateDirectories("/proc") : [])
        {
            if (int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && Stat(folder) is { IsOver: false } stat)
            {
                all[pid] = (stat.Parent, stat.Session);
            }
        }

        return all;
    }

    // https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: state, parent, group and session are the fields 3 to 6. The name, field
    // 2, may have spaces and brackets in it.
    private static (bool IsOver, int Parent, int Group, int Session)? Stat(string folder)
    {
        try
        {
            var stat = File.ReadAllText(folder + "/stat");
            var fields = stat[(stat.LastIndexOf(')') + 1)..].Split(' ', 6);
            return fields.Length == 6 && int.TryParse(fields[2], NumberStyles.None, CultureInfo.InvariantCulture, out var parent)
                && int.TryParse(fields[3], NumberStyles.None, CultureInfo.InvariantCulture, out var group)
                && int.TryParse(fields[4], NumberStyles.None, CultureInfo.InvariantCulture, out var session)
                ? (fields[1] is "Z" or "X", parent, group, session)
                : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
