using System.ComponentModel;
using System.Runtime.InteropServices;

namespace DbLock.Cli;

/// <summary>The file of a program: where it is, and why it cannot be executed.</summary>
internal static class ProgramFile
{
    /// <summary>Finds a program as execvp does; .NET would look in its own folder and in the current one first.</summary>
    /// <param name="program">The program; each char is a byte (<see cref="Given"/>).</param>
    /// <returns>The files that may be executed, best first; when there are none, the exit code of the failure.</returns>
    public static (IReadOnlyList<string> Files, int ExitCode) Find(string program)
    {
        if (program.Length == 0)
        {
            return ([], ExitCode.NoSuchCommand);
        }

        // A path is not made shorter: what link/.. leads to, the system decides.
        var folders = (Given.Variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").Split(':');
        string[] files = program.Contains('/', StringComparison.Ordinal)
            ? [program]
            : [.. folders.Select(folder => $"{(folder.Length == 0 ? "." : folder)}/{program}")];
        var errors = files.ToLookup(Unix.CanExecute);
        return ([.. errors[0]], errors.All(error => IsMissing(error.Key)) ? ExitCode.NoSuchCommand : ExitCode.CannotExecute);
    }

    /// <summary>Returns the exit code for a command that the system refuses to start.</summary>
    public static int ExitCodeOf(Win32Exception error) =>
        IsMissing(error.NativeErrorCode) ? ExitCode.NoSuchCommand : ExitCode.CannotExecute;

    /// <summary>Returns why the system refuses to start a command whose file is there.</summary>
    public static string ReasonOf(Win32Exception error) => IsMissing(error.NativeErrorCode)
        ? "the interpreter that it names is not there"
        : Marshal.GetPInvokeErrorMessage(error.NativeErrorCode);

    /// <summary>Says whether an error means that a file, or a folder on the way to it, does not exist.</summary>
    public static bool IsMissing(int error) => error is Unix.NoSuchFile or Unix.NoFolder;
}
