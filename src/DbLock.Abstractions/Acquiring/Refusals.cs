using System.Data.Common;

namespace DbLock;

/// <summary>The exceptions with which a lock refuses a call or reports a failure. Each message is written here and nowhere else.</summary>
internal static class Refusals
{
    public static ObjectDisposedException Disposed() => new("DbLock.Lock");

    public static InvalidOperationException InUse(LockKey key) => new(
        $"Lock '{key}' is in use by another call at this moment. A Lock, like its connection, serves one caller at a time: give each "
            + "task its own connection and Lock.");

    public static InvalidOperationException NotOpen(LockKey key, DbConnection connection) => new(
        $"The connection of lock '{key}' is {connection.State}, not open: open it (again) first.");

    public static ArgumentException WrongInterface(LockInterface lockInterface, DbConnection connection, string parameter)
    {
        var (type, inner) = (connection.GetType().FullName, Wrapper.Innermost(connection).GetType().FullName);
        return new(
            $"LockInterface.{lockInterface} cannot use a {type}{(inner == type ? "" : $", which wraps a {inner}")}: "
            + "leave the interface out, and it is found from the connection.",
            parameter);
    }

    public static ArgumentException ForeignTransaction(string parameter) => new(
        "This transaction belongs to another connection, or to one inside a wrapper that cannot be seen through: begin one on the "
            + "lock's own connection, or make the lock on "
        + "the transaction's.",
        parameter);

    public static ArgumentOutOfRangeException WrongTimeout(TimeSpan timeout, LockKey key, TimeSpan longest, LockDialect? dialect) => new(
        nameof(timeout),
        timeout,
        longest == TimeSpan.MaxValue
            ? $"A timeout for lock '{key}' must not be negative, unless it is Timeout.InfiniteTimeSpan."
            : $"A timeout for lock '{key}' must lie between zero and {longest}"
                + $"{(dialect is null ? "" : $", the longest that {dialect.Name} can count")}, or be Timeout.InfiniteTimeSpan.");

    public static ArgumentException FencedTransactionScope(string parameter) => new(
        "A lock of transaction scope has no fencing token, because its transaction may be older than the grant: leave "
            + "LockOptions.Fencing or LockOptions.Scope out.", parameter);

    public static ArgumentException ExclusiveSlots(LockKey key, string parameter) => new(
        $"A slot of '{key}' is exclusive and counts one acquire: leave shared and re-entrant out, and give the key more slots instead.",
        parameter);

    public static NotSupportedException NoSeveral(LockDialect dialect) => new(
        $"{dialect.Name} cannot lock several keys at once here: use a lock for each, always in the same order.");

    public static NotSupportedException NoFencing(LockDialect dialect) => new($"{dialect.Name} has no fencing tokens here: leave "
        + "LockOptions.Fencing out.");

    public static NotSupportedException NoHolders(LockDialect dialect) => new(
        $"DbLock does not know how to ask {dialect.Name} who holds a lock: ask the server's own tools.");

    public static InvalidOperationException FencedTransaction(LockKey key) => new(
        $"Lock '{key}' cannot have a fencing token inside a transaction, whose number may be older than the grant: acquire it before "
            + "the transaction begins.");

    public static InvalidOperationException MissingTransaction(LockKey key) => new(
        $"Lock '{key}' has transaction scope and no open transaction, and would be gone at once: begin one on its connection and give "
            + "it to Lock.Transaction.");

    public static InvalidOperationException HiddenEnlistment(LockKey key, DbConnection connection) => new(
        $"A TransactionScope is open, and a {Wrapper.Innermost(connection).GetType().FullName} does not tell whether it is enlisted in "
            + $"it, so that nobody can say what lock '{key}' would "
        + "end with: acquire before the scope begins or under TransactionScopeOption.Suppress, or use a lock of a data source, or "
        + "BeginTransaction and give the transaction to Lock.Transaction.");

    public static InvalidOperationException EnlistedSession(LockKey key) => new(
        $"The connection of lock '{key}' is enlisted in a TransactionScope, which keeps its session until the transaction ends, "
            + "whatever becomes of the lock: set LockOptions.Scope to "
        + "LockScope.Transaction, so that the lock ends with it, or use a lock of a data source, or acquire before the connection is "
        + "enlisted.");

    public static LockException WouldWaitForItself(LockKey key, string reason) => new(
        $"This connection already holds lock '{key}', and would wait for itself ({reason}): release it first, or use the lock that "
            + "is held.");

    public static InvalidOperationException NotSent(LockKey key, Exception error, string state) => new(
        $"The provider did not send the command of lock '{key}': {error.Message} Close an open reader; give an open transaction to "
            + $"Lock.Transaction. {state}", error);

    public static LockException UnknownTransaction(LockKey key, Exception? error) => new(
        $"Lock '{key}' is not acquired, and its connection is in a transaction that the lock does not know and that has failed with the "
            + "acquire: roll it back, and give the "
        + "next one to Lock.Transaction, so that a lock that is held elsewhere leaves it usable.",
        error);

    public static OperationCanceledException Cancelled(
        LockKey key, Exception? error, CancellationToken cancellationToken, bool isSessionEnded = false) => new(
        $"The wait for lock '{key}' was cancelled. The lock is not acquired."
        + (isSessionEnded ? " It could not be verified that the session does not hold it, so that the session was ended, with its "
        + "transaction and its other locks." : ""),
        error,
        cancellationToken);

    public static LockDeadlockException Deadlock(LockKey key, string[] held, Exception? error) => new(
        $"The wait for lock '{key}' was ended by the server to break a deadlock, and the lock is not acquired. "
        + (held.Length == 0
            ? "Try again."
            : $"This session still holds {string.Join(", ", held)}: release it, so that the others can go on, then try again."),
        error);

    public static LockNotAcquiredException EndedByServer(LockKey key, LockHolders? holders, Exception? error) => new(
        $"The wait for lock '{key}' was ended by the server before its time: a limit on statements (PostgreSQL's statement_timeout, "
            + "MariaDB's max_statement_time) or an "
        + "administrator's cancel. The lock is not acquired; wait with a timeout shorter than the limit, or raise the limit."
        + (holders is null ? "" : $" Now {holders}."),
        error)
    {
        Holders = holders,
    };

    public static LockNotAcquiredException SessionEndedByLimit(string what, Exception? error) => new(
        $"The server ended the session that asked for {what}, because a limit of its own was reached (transaction_timeout, "
            + "idle_in_transaction_session_timeout or idle_session_timeout; the inner exception says which). The lock is not acquired, and "
            + "what the session held is gone, with its transaction: open the connection again, then wait with a timeout shorter than the "
            + "limit, or raise the limit.",
        error);

    public static LockException Explained(LockKey key, string words, Exception? error) => new(
        $"Lock '{key}' is not acquired. {words}", error);

    public static LockException Broken(LockKey key, Exception? error) => new(
        $"The connection of lock '{key}' broke while the lock was waited for. The lock is not acquired: open the connection again, then "
            + "try again.", error);

    public static LockException Silent(LockKey key, Exception? error) => new(
        $"The server has not answered for lock '{key}' in time, so that nobody knows who holds it. The lock is not acquired: the "
            + "connection is given up, with its "
        + "transaction and its other locks. Look at the server and the network, open the connection again, then try again.",
        error);

    public static LockException NoConnection(LockKey key, TimeSpan timeout, Exception? error) => new(
        $"No connection for lock '{key}' was to be had from the data source within {timeout.InWords()}: all of its connections are in "
            + "use, or the server does not "
        + "answer. The lock is not acquired, and nobody has asked who holds it: give the data source more connections, or wait longer.",
        error);

    public static LockException NotAnswered(LockKey key, LockDialect dialect) => new(
        $"The server did not answer whether lock '{key}' was taken, as {dialect.Name} does: something between changes its answers. The "
            + "lock is not acquired; connect to the server directly.");

    public static LockLostException Lost(LockKey key, Exception? error) => new(
        $"Lock '{key}' was lost: the server no longer held it for this connection, which was closed or whose session ended (EF Core "
            + "closes its own after each operation, unless you opened it). "
        + "The work under the lock may not have been alone: check it.",
        error);

    public static Exception CannotSay(LockKey key, Exception error, CancellationToken cancellationToken) =>
        cancellationToken.IsCancellationRequested
            ? new OperationCanceledException(
                $"The question whether lock '{key}' is held was cancelled. Its hold is as before.", error, cancellationToken)
            : new LockException(
                $"The server could not say whether lock '{key}' is still held, though the session lives, and most likely the lock with it: "
                + $"{error.Message} If the transaction has failed, roll it back, then ask again.",
                error);

    public static LockException StillHeld(LockKey key, bool isTransactionKnown, Exception error) => new(
        $"Lock '{key}' is still held: the transaction has failed, and the server refuses to unlock inside it. "
        + (isTransactionKnown
            ? "Roll it back (LockOptions.RollbackOnError is off), then release again."
            : "The lock does not know the transaction: give it to Lock.Transaction, roll it back, then release again."),
        error);

    public static LockException OtherDatabase(LockKey key, string database, Exception error) => new(
        $"Lock '{key}' is still held: it belongs to database '{database}', where it was taken, and the connection cannot go back there: "
            + $"{error.Message} Change the connection's database to it, then release again.", error);

    public static InvalidOperationException HeldInDatabase(LockKey key, string database) => new(
        $"This Lock holds '{key}' in database '{database}', and the connection is in another one since, where that name is another lock: "
            + "release it first, or make a Lock for each database.");

    public static LockException NotRolledBack(LockKey key, Exception error) => new(
        $"Lock '{key}' is still held: the transaction has failed, and could not be rolled back: {error.Message} Close the connection, "
            + "which ends both.", error);

    public static LockException SessionEnded(LockKey key, Exception? error) => new(
        $"Lock '{key}' is not acquired, and it could not be verified that its session does not hold it, so that the session was ended, "
            + "with its transaction and its "
        + $"other locks: open the connection again, then try again.{(error is null ? "" : $" The error was: {error.Message}")}",
        error);

    public static LockException NotLetGoAfterBody(LockKey key, Exception error) => new(
        $"The body ran to its end, and lock '{key}' could not be let go after it, so that the session was ended, with its transaction "
            + $"and its other locks: {error.Message} "
        + "Dispose every reader, and end every transaction that the lock does not know, in the body.",
        error);
}
