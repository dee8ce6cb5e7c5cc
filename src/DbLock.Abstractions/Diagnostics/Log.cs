using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>What DbLock logs, under the category <see cref="Lock.LogCategory"/>.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Debug, "Lock '{Key}' acquired.")]
    public static partial void Acquired(ILogger logger, LockKey key);

    [LoggerMessage(2, LogLevel.Debug, "Lock '{Key}' not acquired: it is held elsewhere.")]
    public static partial void NotAcquired(ILogger logger, LockKey key);

    [LoggerMessage(3, LogLevel.Debug, "Lock '{Key}' released.")]
    public static partial void Released(ILogger logger, LockKey key);

    [LoggerMessage(4, LogLevel.Warning,
        "Lock '{Key}' was lost: the server no longer held it when it was to be released. The work under it may not have been alone.")]
    public static partial void Lost(ILogger logger, LockKey key, Exception? error);

    [LoggerMessage(5, LogLevel.Warning,
        "Lock '{Key}' is released inside an open transaction: the next holder cannot see its uncommitted work. Commit first, or use "
        + "LockScope.Transaction.")]
    public static partial void ReleasedBeforeCommit(ILogger logger, LockKey key);

    [LoggerMessage(6, LogLevel.Warning,
        "Lock '{Key}' is acquired in a {IsolationLevel} transaction: its snapshot is older than the grant and hides the last holder's "
        + "work. Acquire before the transaction begins, or use ReadCommitted.")]
    public static partial void OldSnapshot(ILogger logger, LockKey key, System.Data.IsolationLevel isolationLevel);

    [LoggerMessage(7, LogLevel.Error,
        "The database session was ended, because it could not be verified that lock '{Key}' is not held: its transaction and its other "
        + "locks are gone too.")]
    public static partial void SessionEnded(ILogger logger, LockKey key, Exception? error);

    [LoggerMessage(20, LogLevel.Error,
        "The database session was ended, because its role may not ask whether it holds lock '{Key}', which was in doubt: its transaction "
        + "and its other locks are gone too. PostgreSQL gives that right to every role: grant select on pg_locks, and execute on "
        + "function pg_lock_status, to it again.")]
    public static partial void MayNotAsk(ILogger logger, LockKey key, Exception? error);

    [LoggerMessage(8, LogLevel.Warning, "The transaction under lock '{Key}' could not be rolled back after an error.")]
    public static partial void RollbackFailed(ILogger logger, LockKey key, Exception error);

    [LoggerMessage(9, LogLevel.Error, "Lock '{Key}' could not be released after an error, and is still held: it ends with the session.")]
    public static partial void ReleaseFailed(ILogger logger, LockKey key, Exception error);

    [LoggerMessage(10, LogLevel.Warning,
        "A connection was closed while it held lock '{Key}', by the program or because its session ended: the lock is lost, and the pool "
        + "was cleared so that it does not stay on the server. Where the program closed it, release before closing.")]
    public static partial void ClosedWhileHeld(ILogger logger, LockKey key);

    [LoggerMessage(11, LogLevel.Warning, "{Session}: it was sent the signal {Signal}.")]
    public static partial void Signalled(ILogger logger, string session, Enum signal);

    [LoggerMessage(12, LogLevel.Error,
        "Who blocks the session with pid {Pid} is no longer looked for, because that failed: its waits take as long as they take.")]
    public static partial void PriorityFailed(ILogger logger, int pid, Exception error);

    [LoggerMessage(13, LogLevel.Warning,
        "The connection that carried {Count} locks of a LockPool was lost, and they with it: the work under them may not have been "
        + "alone.")]
    public static partial void CarrierLost(ILogger logger, int count, Exception? error);

    [LoggerMessage(14, LogLevel.Warning,
        "A LockPool cannot hear of releases by others: its tasks that wait for other processes are tried again at intervals of up to a "
        + "second.")]
    public static partial void CannotListen(ILogger logger, Exception error);

    [LoggerMessage(15, LogLevel.Error,
        "Lock '{Key}' was never disposed and nobody has it any more: its session was ended, so that the lock is free. Dispose what "
        + "AcquireLock returns.")]
    public static partial void Abandoned(ILogger logger, LockKey key);

    [LoggerMessage(17, LogLevel.Warning,
        "Lock '{Key}' was neither released nor disposed and nobody has it any more: it is held until its connection closes, and nobody "
        + "can release it. Release it, or dispose it.")]
    public static partial void Forgotten(ILogger logger, LockKey key);

    [LoggerMessage(30, LogLevel.Error,
        "Lock '{Key}' of a LockPool was never released or disposed and nobody has it any more: it was let go. Dispose what "
        + "AcquireLockAsync returns.")]
    public static partial void AbandonedInPool(ILogger logger, LockKey key);

    [LoggerMessage(31, LogLevel.Warning,
        "Lock '{Key}' of a LockPool has been waited for for a second where it was acquired around the wait, and is still held: unless "
        + "another task lets go of it, the wait does not end.")]
    public static partial void MayWaitForItself(ILogger logger, LockKey key);

    [LoggerMessage(32, LogLevel.Warning, "A LockPool has no connection; its tasks that waited already go on waiting, and it tries again.")]
    public static partial void CannotConnect(ILogger logger, Exception error);

    [LoggerMessage(16, LogLevel.Information,
        "The server does not let a session of its own for locks be set to last (keepalives, idle timeouts): it is as the server has it.")]
    public static partial void CannotSet(ILogger logger, Exception error);

    [LoggerMessage(21, LogLevel.Warning,
        "Lock '{Key}' was let go, and stays locked until the transaction ends in which it was waited for, which the lock does not know: "
        + "give the transaction to Lock.Transaction, or end it before the release.")]
    public static partial void KeptByTransaction(ILogger logger, LockKey key);

    [LoggerMessage(22, LogLevel.Error,
        "The server has not answered for lock '{Key}' in time: the connection was given up, and its session with its transaction and its "
        + "other locks.")]
    public static partial void Silent(ILogger logger, LockKey key);

    [LoggerMessage(40, LogLevel.Warning,
        "Lease '{Key}' was lost: it was not renewed in time, or its row was changed. The work under it may not have been alone.")]
    public static partial void LeaseLost(ILogger logger, LockKey key, Exception? error);

    [LoggerMessage(41, LogLevel.Warning,
        "The clock of {Server} differs by {Seconds} s from the one of {Before} before: servers that give leases may differ by {Margin} s "
        + "(LockOptions.ClockMargin). Set their clocks, or raise the margin.")]
    public static partial void ClocksDiffer(ILogger logger, string server, double seconds, string before, double margin);

    [LoggerMessage(42, LogLevel.Error,
        "Lease '{Key}' was never disposed and nobody has it any more: it was let go. Dispose what AcquireLock returns.")]
    public static partial void LeaseAbandoned(ILogger logger, LockKey key);

    [LoggerMessage(43, LogLevel.Warning, "{Count} leases, among them '{Key}', could not be renewed just now; they are tried again.")]
    public static partial void NotRenewed(ILogger logger, int count, LockKey key, Exception error);

    [LoggerMessage(44, LogLevel.Warning,
        "Lease '{Key}' was held to the end and could not be let go over its connection: it ends by itself, or the next call of its Lock "
        + "over an open connection lets go of it.")]
    public static partial void LeaseNotLetGo(ILogger logger, LockKey key, Exception? error);
}
