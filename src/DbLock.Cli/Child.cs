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
        var candidates = program.Contains('/', StringComparison.Ordinal)
            ? [Path.GetFullPath(program)]
            : (Environment.GetEnvironmentVariable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").Split(':').Select(folder => Path.Combine(folder.Length == 0 ? "." : folder, program));
        var exitCode = ExitCode.NoSuchCommand;
        foreach (var file in candidates.Select(Path.GetFullPath))
        {
            if (IsExecutable(file))
            {
                return (file, ExitCode.Ok);
            }

            exitCode = Path.Exists(file) ? ExitCode.CannotExecute : exitCode;
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

    /// <summary>Kills the command and all that it has started.</summary>
    public void Kill()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (Exception e) when (e is InvalidOperationException or AggregateException or Win32Exception)
        {
            Dblock.Say(string.Create(CultureInfo.InvariantCulture, $"the command (pid {_process.Id}) could not be killed with all that it had started: {e.Message}"));
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
}
