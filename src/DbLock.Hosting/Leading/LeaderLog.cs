using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>What is logged of elections, under the category <see cref="Lock.LogCategory"/>.</summary>
internal static partial class LeaderLog
{
    [LoggerMessage(61, LogLevel.Information, "This instance leads '{Key}' (fencing token {Token}): {Service} is started.")]
    public static partial void Elected(ILogger logger, LockKey key, long? token, string service);

    [LoggerMessage(62, LogLevel.Information, "This instance leads '{Key}' no more, because it stops.")]
    public static partial void Resigned(ILogger logger, LockKey key);

    [LoggerMessage(63, LogLevel.Warning, "This instance leads '{Key}' no more: it has lost the lock, and stands for election again.")]
    public static partial void Lost(ILogger logger, LockKey key);

    [LoggerMessage(64, LogLevel.Error, "This instance leads '{Key}' no more, because {Service} has failed; it stands for election again.")]
    public static partial void Failed(ILogger logger, LockKey key, string service, Exception error);

    [LoggerMessage(65, LogLevel.Warning, "This instance cannot stand for election '{Key}' at present; it tries again.")]
    public static partial void CannotStand(ILogger logger, LockKey key, Exception error);

    [LoggerMessage(66, LogLevel.Error,
        "{Service} has not stopped in time at the end of its term for '{Key}': the lock is kept until this process ends.")]
    public static partial void DoesNotStop(ILogger logger, LockKey key, string service);

    [LoggerMessage(67, LogLevel.Error, "{Service} could not be stopped or disposed at the end of its term for '{Key}'.")]
    public static partial void StopFailed(ILogger logger, LockKey key, string service, Exception error);

    [LoggerMessage(68, LogLevel.Error, "A handler of ILeader.Changed has failed for '{Key}'.")]
    public static partial void HandlerFailed(ILogger logger, LockKey key, Exception error);
}
