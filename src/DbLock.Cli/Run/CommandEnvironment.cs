using System.Globalization;

namespace DbLock.Cli;

/// <summary>What the command finds in its environment beyond what dblock was started with.</summary>
internal static class CommandEnvironment
{
    /// <summary>Returns the variables that the command gets, and, with null, those that are kept from it.</summary>
    public static IReadOnlyList<(string Name, string? Value)> Variables(RunJob job, IRunHold hold) =>
    [
        ("DBLOCK_KEY", Key(job, hold.Slot is { } slot ? job.Key.Slot(slot) : job.Key)),
        ("DBLOCK_NAME", job.Name),
        ("DBLOCK_SLOT", hold.Slot?.ToString(CultureInfo.InvariantCulture)),
        ("DBLOCK_PID", hold.SessionId?.ToString(CultureInfo.InvariantCulture)),
        ("DBLOCK_FENCING_TOKEN", hold.FencingToken?.ToString(CultureInfo.InvariantCulture)),
        .. job.PassConnection ? [] : new (string, string?)[] { ("DBLOCK_CONNECTION", null) },
    ];

    private static string Key(RunJob job, LockKey key) => job.Database is PostgreSqlDatabase ? Number(key) : key.Name;

    private static string Number(LockKey key) => key.IsPair
        ? string.Create(CultureInfo.InvariantCulture, $"{key.Pair.First},{key.Pair.Second}")
        : key.Number.ToString(CultureInfo.InvariantCulture);
}
