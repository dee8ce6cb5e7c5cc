using System.Runtime.InteropServices;

namespace DbLock.Cli;

/// <summary>What .NET does not have of the C library.</summary>
internal static partial class Unix
{
    public const int Sigint = 2;
    public const int Sigquit = 3;
    public const int Sigkill = 9;
    public const int Sigterm = 15;

    /// <summary>Sends a signal; one to a process that is gone is nothing.</summary>
    public static void Send(int pid, int signal) => _ = Kill(pid, signal);

    /// <summary>Says whether the terminal's own signals (Ctrl-C, Ctrl-\) come to this process, and to those that it started.</summary>
    public static bool IsInForeground()
    {
        try
        {
            using var terminal = File.OpenHandle("/dev/tty");
            return ForegroundGroup((int)terminal.DangerousGetHandle()) == Group();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "tcgetpgrp")]
    private static partial int ForegroundGroup(int terminal);

    [LibraryImport("libc", EntryPoint = "getpgrp")]
    private static partial int Group();
}
