namespace DbLock.Cli;

/// <summary>The exit codes that are dblock's own; all others are the command's. 64 and 69 to 75 are those of sysexits.h.</summary>
internal static class ExitCode
{
    public const int Ok = 0;

    /// <summary>Something is left in the way, or wrong.</summary>
    public const int NotDone = 1;

    public const int Usage = 64;

    /// <summary>The server cannot be reached, lets nobody in, or has no locks that can be trusted.</summary>
    public const int Unavailable = 69;

    public const int Internal = 70;

    public const int Lost = 74;

    /// <summary>The lock was held elsewhere.</summary>
    public const int Conflict = 75;

    public const int CannotExecute = 126;

    public const int NoSuchCommand = 127;

    /// <summary>What is added to the number of the signal that ended the wait or the command.</summary>
    public const int Signal = 128;
}
