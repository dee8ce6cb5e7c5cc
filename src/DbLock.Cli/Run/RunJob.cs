using System.Globalization;

namespace DbLock.Cli;

/// <summary>What one <c>dblock run</c> is to do, as the command line says it.</summary>
internal sealed record RunJob
{
    public required Database Database { get; init; }

    /// <summary>Gets the lock's name as the user wrote it.</summary>
    public required string Name { get; init; }

    public required LockKey Key { get; init; }

    public required LockOptions Options { get; init; }

    /// <summary>Gets the command and its arguments; each char is a byte (<see cref="Given"/>).</summary>
    public required string[] Words { get; init; }

    /// <summary>Gets how long the lock may be waited for: zero only tries, and infinite waits for ever.</summary>
    public required TimeSpan Timeout { get; init; }

    public required int ConflictExitCode { get; init; }

    public required WhenLost WhenLost { get; init; }

    /// <summary>Gets how long the command has to end after SIGTERM.</summary>
    public required TimeSpan Grace { get; init; }

    /// <summary>Gets whether the lock ends with the command, whatever the command has left running.</summary>
    public required bool Close { get; init; }

    public required bool PassConnection { get; init; }

    public required bool Quiet { get; init; }

    public required bool Verbose { get; init; }

    /// <summary>Gets the holder's name that the server shows. It has no arguments of the command, which may be secrets.</summary>
    public string Holder =>
        string.Create(CultureInfo.InvariantCulture, $"{Words[0]} on {Environment.MachineName} pid {Environment.ProcessId}");
}
