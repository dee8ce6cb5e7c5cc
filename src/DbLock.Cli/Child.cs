using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>The command that runs under the lock: no shell, the same terminal, the same standard streams.</summary>
internal sealed class Child : IDisposable
{
    private const int NoSuchFile = 2;

    private readonly Process _process;

    private Child(Process process) => _process = process;

    /// <summary>Finds a program as execvp does; .NET would look in its own folder and in the current one first.</summary>
    /// <returns>The file, or null and the exit code of the failure.</returns>
    public static (string? File, int ExitCode) Find(string program)
    {
        var exitCode = ExitCode.NoSuchCommand;
        if (program.Length == 0)
        {
            return (null, exitCode);
        }

        var isPath = program.Contains('/', StringComparison.Ordinal);
        foreach (var folder in isPath ? [""] : (Environment.GetEnvironmentVariable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").Split(':'))
        {
            var file = Path.GetFullPath(Path.Combine(folder.Length == 0 ? "." : folder, program));
            if (IsExecutable(file))
            {
                return (file, ExitCode.Ok);
            }

            exitCode = File.Exists(file) || (Directory.Exists(file) && isPath) ? ExitCode.CannotExecute : exitCode;
        }

        return (null, exitCode);
    }

    /// <summary>Starts a command.</summary>
    /// <exception cref="Win32Exception">The system refuses.</exception>
    public static Child Start(string file, IEnumerable<string> arguments, IEnumerable<(string Name, string Value)> environment)
    {
        var start = new ProcessStartInfo(file) { UseShellExecute = false };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return new Child(Process.Start(start)!);
    }

    /// <summary>Returns the exit code for a command that the system refuses to start.</summary>
    public static int ExitCodeOf(Win32Exception error) => error.NativeErrorCode == NoSuchFile ? ExitCode.NoSuchCommand : ExitCode.CannotExecute;

    /// <summary>Forwards a signal. What comes from the terminal has come to the command too.</summary>
    public void Forward(int signal)
    {
        if (signal is Unix.Sigint or Unix.Sigquit && Unix.IsInForeground())
        {
            return;
        }

        Send(signal);
    }

    public void Send(int signal)
    {
        if (!_process.HasExited)
        {
            Unix.Send(_process.Id, signal);
        }
    }

    /// <summary>Gets the command and all that it has started and is below it still, each with when it began: a process id is used again.</summary>
    public IReadOnlyList<(int Pid, string Start)> Family()
    {
        var all = new Dictionary<int, (int Parent, string Start)>();
        foreach (var folder in Directory.Exists("/proc/self") ? Directory.EnumerateDirectories("/proc") : [])
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && Stat(pid) is { } stat)
            {
                all[pid] = stat;
            }
        }

        var family = new List<(int Pid, string Start)> { (_process.Id, Stat(_process.Id)?.Start ?? "") };
        for (var i = 0; i < family.Count; i++)
        {
            family.AddRange(all.Where(process => process.Value.Parent == family[i].Pid).Select(process => (process.Key, process.Value.Start)));
        }

        return family;
    }

    /// <summary>Sends a signal to those of a family that still live.</summary>
    public static void Send(IEnumerable<(int Pid, string Start)> family, int signal)
    {
        foreach (var (pid, start) in family)
        {
            if (start.Length == 0 || Stat(pid)?.Start == start)
            {
                Unix.Send(pid, signal);
            }
        }
    }

    /// <summary>Waits for the end of the command.</summary>
    /// <returns>Its exit code; 128 and the number of the signal that ended it.</returns>
    public async Task<int> ExitAsync()
    {
        await _process.WaitForExitAsync().ConfigureAwait(false);
        return _process.ExitCode;
    }

    public void Dispose() => _process.Dispose();

    private static bool IsExecutable(string file) =>
        File.Exists(file) && (File.GetUnixFileMode(file) & (UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute)) != 0;

    // https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: the parent is field 4, the start field 22. The name, field 2, may have spaces and brackets in it.
    private static (int Parent, string Start)? Stat(int pid)
    {
        try
        {
            var stat = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/stat"));
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return (int.Parse(fields[1], CultureInfo.InvariantCulture), fields[19]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
