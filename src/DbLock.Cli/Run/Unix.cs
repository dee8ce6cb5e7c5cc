using System.Runtime.InteropServices;
using System.Text;

namespace DbLock.Cli;

/// <summary>Functions of the C library that .NET does not have.</summary>
internal static unsafe partial class Unix
{
    // These are the same on Linux and macOS: ENOENT, ENOEXEC, EACCES, ENOTDIR.
    public const int NoSuchFile = 2;
    public const int NoProgram = 8;
    public const int NoAccess = 13;
    public const int NoFolder = 20;

    /// <summary>EPIPE, the same on both, which .NET gives an exception as its HResult.</summary>
    public const int BrokenPipe = 32;

    public const int Sighup = 1;
    public const int Sigint = 2;
    public const int Sigquit = 3;
    public const int Sigkill = 9;
    public const int Sigterm = 15;

    // These are the same on Linux and macOS: WNOHANG, X_OK, POSIX_SPAWN_SETSIGDEF, EINTR, SIGPIPE, SIG_DFL.
    private const int DoNotWait = 1;
    private const int Execute = 1;
    private const short DefaultSignals = 4;
    private const int Interrupted = 4;
    private const int Sigpipe = 13;
    private const nint Default = 0;

    // This is larger than sigset_t and posix_spawnattr_t of any C library (glibc's last has 336 bytes).
    private const int Room = 1024;

    private const int PrSetChildSubreaper = 36;

    public static int Sigstop { get; } = OperatingSystem.IsLinux() ? 19 : 17;

    public static int Sigcont { get; } = OperatingSystem.IsLinux() ? 18 : 19;

    private static int Sigchld { get; } = OperatingSystem.IsLinux() ? 17 : 20;

    /// <summary>Sends a signal.</summary>
    /// <returns>False when the process is gone, or another user's.</returns>
    public static bool Send(int pid, int signal) => Kill(pid, signal) == 0;

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

    /// <summary>
    /// Makes this process the parent of all processes below it that lose theirs (Linux), and lets it hear how its children end.
    /// </summary>
    /// <remarks>https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html</remarks>
    public static void AdoptOrphans()
    {
        if (OperatingSystem.IsLinux())
        {
            _ = Control(PrSetChildSubreaper, 1, 0, 0, 0);
        }

        // Whoever started dblock may have it ignore SIGCHLD, and then the system throws the exit codes away. And .NET's own handler, which
        // is there since the first signal was asked for, collects all children when dblock is process 1 of a container: dblock would wait
        // for ever for a command that has ended.
        Signal(Sigchld, Default);
    }

    /// <summary>Asks the system whether it would execute a file for this user; a folder is none.</summary>
    /// <param name="file">The file's path; each char is a byte (<see cref="Given"/>).</param>
    /// <returns>0, or the number of the error.</returns>
    public static int CanExecute(string file) => Access(Terminated(file), Execute) != 0
        ? Marshal.GetLastPInvokeError()
        : Access(Terminated(file + "/."), Execute) == 0 ? NoAccess : 0;

    /// <summary>Starts a program with this process's streams and folder.</summary>
    /// <param name="file">The program's path; each char is a byte, as in the others (<see cref="Given"/>).</param>
    /// <param name="arguments">Its arguments, from its name on.</param>
    /// <param name="environment">Its environment.</param>
    /// <param name="pid">The process's number.</param>
    /// <returns>0, or the number of the error.</returns>
    /// <remarks>
    /// Not with .NET's <c>Process</c>: .NET has this process ignore SIGPIPE, and what is ignored stays ignored in a program that it starts;
    /// here it begins with the default.
    /// </remarks>
    public static int Start(string file, IReadOnlyList<string> arguments, IReadOnlyList<string> environment, out int pid)
    {
        var attributes = stackalloc byte[Room];
        var signals = stackalloc byte[Room];
        pid = 0;
        var error = SpawnAttributes(attributes)
            | SetFlags(attributes, DefaultSignals)
            | NoSignals(signals)
            | AddSignal(signals, Sigpipe)
            | SetDefaultSignals(attributes, signals);
        var (words, variables) = (new Strings(arguments), new Strings(environment));
        error = error == 0 ? Spawn(out pid, Terminated(file), null, attributes, words.Pointers, variables.Pointers) : error;
        GC.KeepAlive(words);
        GC.KeepAlive(variables);
        return error;
    }

    /// <summary>Waits for the end of a child, of whichever is the next.</summary>
    /// <param name="wait">False looks only whether one has ended.</param>
    /// <param name="pid">Which; 0 when none has ended yet.</param>
    /// <param name="exitCode">Its exit code; 128 and the number of the signal that ended it.</param>
    /// <returns>False when there are no children.</returns>
    public static bool Wait(bool wait, out int pid, out int exitCode)
    {
        int status;
        do
        {
            pid = WaitPid(-1, out status, wait ? 0 : DoNotWait);
        }
        while (pid < 0 && Marshal.GetLastPInvokeError() == Interrupted);
        exitCode = (status & 0x7f) == 0 ? (status >> 8) & 0xff : ExitCode.Signal + (status & 0x7f);
        return pid >= 0;
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "tcgetpgrp")]
    private static partial int ForegroundGroup(int terminal);

    [LibraryImport("libc", EntryPoint = "getpgrp")]
    private static partial int Group();

    [LibraryImport("libc", EntryPoint = "prctl")]
    private static partial int Control(int option, nuint first, nuint second, nuint third, nuint fourth);

    [LibraryImport("libc", EntryPoint = "signal")]
    private static partial nint Signal(int signal, nint handler);

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static partial int WaitPid(int pid, out int status, int options);

    [LibraryImport("libc", EntryPoint = "sigemptyset")]
    private static partial int NoSignals(byte* signals);

    [LibraryImport("libc", EntryPoint = "sigaddset")]
    private static partial int AddSignal(byte* signals, int signal);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_init")]
    private static partial int SpawnAttributes(byte* attributes);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setflags")]
    private static partial int SetFlags(byte* attributes, short flags);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setsigdefault")]
    private static partial int SetDefaultSignals(byte* attributes, byte* signals);

    [LibraryImport("libc", EntryPoint = "access", SetLastError = true)]
    private static partial int Access(byte[] file, int mode);

    [LibraryImport("libc", EntryPoint = "posix_spawn")]
    private static partial int Spawn(out int pid, byte[] file, byte* actions, byte* attributes, nint[] arguments, nint[] environment);

    private static byte[] Terminated(string bytes) => Encoding.Latin1.GetBytes(bytes + '\0');

    /// <summary>Strings as C has them: pointers to bytes that end with a zero, and a null pointer after the last.</summary>
    private sealed class Strings
    {
        private readonly byte[][] _strings;

        public Strings(IEnumerable<string> strings)
        {
            _strings = [.. strings.Select(text =>
            {
                var bytes = GC.AllocateUninitializedArray<byte>(text.Length + 1, pinned: true);
                Terminated(text).CopyTo(bytes, 0);
                return bytes;
            })];
            Pointers = [.. _strings.Select(bytes => Marshal.UnsafeAddrOfPinnedArrayElement(bytes, 0)), 0];
        }

        public nint[] Pointers { get; }
    }
}
