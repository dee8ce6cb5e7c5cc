namespace DbLock;

/// <summary>The exceptions with which a lease is refused or fails. Each message is written here and nowhere else.</summary>
internal static class LeaseRefusals
{
    public static NotSupportedException NoLeases(LockDialect dialect) => new(
        $"{dialect.Name} has no leases here: leave LockOptions.Scope at Session, or give LockOptions.Dialect one that has leases.");

    public static NotSupportedException NoSlots() => new(
        "The leases of this dialect have no slots: use a key for each, and try one after the other.");

    public static ArgumentException Exclusive(string parameter) => new(
        "A lease is exclusive and counts one acquire: leave LockOptions.Shared and LockOptions.Reentrant off, or use LockScope.Session.",
        parameter);

    public static ArgumentOutOfRangeException WrongLease(TimeSpan lease, string parameter) => new(
        parameter, lease, $"LockOptions.Lease must lie between {LeaseTimes.Shortest.InWords()} and {LeaseTimes.Longest.InWords()}.");

    public static ArgumentOutOfRangeException WrongAtLeast(TimeSpan least, string parameter) => new(
        parameter, least, $"LockOptions.AtLeast must lie between zero and {LeaseTimes.LongestLeast.InWords()}.");

    public static ArgumentException LeastOfSession(string parameter) => new(
        "LockOptions.AtLeast is for leases alone, and other locks would end before it: set LockOptions.Scope to LockScope.Lease, or leave "
            + "AtLeast out.",
        parameter);

    public static ArgumentOutOfRangeException WrongMargin(TimeSpan margin, string parameter) => new(
        parameter, margin, "LockOptions.ClockMargin must lie between zero and half of LockOptions.Lease.");

    public static LockException NoTable(LeaseTable table, string ddl, Exception error) => new(
        $"Leases are kept in a table, and {table} does not exist for this connection, or has other columns: create it once with "
            + $"LeaseTable.CreateAsync, with `dblock lease-table`, or with this statement:\n{ddl}",
        error);

    public static LockException NoRight(LeaseTable table, string ddl, Exception error) => new(
        $"The user of this connection may not use the table of leases, {table}: grant select, insert and update on it. It was made with "
            + $"this statement:\n{ddl}",
        error);

    public static LockException NoWrites(LockKey key, Exception error) => new(
        $"Lease '{key}' is not acquired, because this server takes no writes from this connection: it is a standby or a node of a cluster "
            + "without its fellows, or the user, the database or the file is read-only. Connect to the primary, as one who may write, "
            + "or try again when it takes writes.",
        error);

    public static LockException Refused(LockKey key, Exception error) => new(
        $"Lease '{key}' is not acquired, because the server has refused the statement: {error.Message}", error);

    public static LockException NotConnected(LockKey key, Exception error) => error as LockException ?? new(
        $"Lease '{key}' is not acquired, because no connection to the server could be opened: {error.Message}", error);

    public static LockException Unknown(LockKey key, Exception? error) => new(
        $"The server did not answer whether it gave lease '{key}', so that nobody knows who holds it. The lease is not acquired, and what "
            + "was given all the same is let go or ends by itself: look at the server, the network and the data source, then try again.",
        error);

    /// <summary>
    /// Returns the exception for a lease that was not acquired, because the server did not answer or has answered with an error.
    /// </summary>
    public static Exception Of(LockKey key, LeaseAnswer answer, LeaseTable table, string ddl) => answer switch
    {
        { Error: LockException or NotSupportedException } => answer.Error,
        { IsUnsent: true } => NotConnected(key, answer.Error!),
        { Trouble: LeaseTrouble.NoTable } => NoTable(table, ddl, answer.Error!),
        { Trouble: LeaseTrouble.NoRight } => NoRight(table, ddl, answer.Error!),
        { Trouble: LeaseTrouble.Refused } => Refused(key, answer.Error!),
        { Trouble: LeaseTrouble.NoWrites } => NoWrites(key, answer.Error!),
        _ => Unknown(key, answer.Error),
    };

    public static LockLostException Lost(LockKey key, Exception? error) => new(
        $"Lease '{key}' was lost: it was not renewed in time, because the server could not be reached, its clock went forward, or this "
            + "process stood still or disposed of its pool; or its row was changed by somebody else. The work under it may not have been "
            + "alone: check it.",
        error);

    public static LockLostException NotRenewed(LockKey key, TimeSpan trusted) => new(
        $"Lease '{key}' was lost: its Lock did not renew it (Lock.Renew) within {trusted.InWords()} of its grant or of the last renewal, "
            + "or its row was changed by somebody else. The work under it may not have been alone: check it, and renew it more often, make "
            + "LockOptions.Lease longer, or take the lease from a data source, which renews it.",
        null);

    public static InvalidOperationException InTransaction(LockKey key, string what) => new(
        $"Lease '{key}' is not {what} inside a transaction, whose rollback would undo that, and for whose end others would wait: do it "
            + "before the transaction begins or after it has ended, use LockScope.Transaction, or take the lease from a data source.");

    public static LockException Uncommitted(LockKey key, string what, Exception? error) => new(
        $"Lease '{key}' is not {what}, because this connection does not commit by itself: it is in a transaction that the lock does not "
            + "know, whose rollback would undo that. End the transaction first, or turn autocommit on.",
        error);

    public static LockException CannotRenew(LockKey key, TimeSpan left, Exception error) => new(
        $"Lease '{key}' could not be renewed just now: {error.Message} It is held for {left.InWords()} more: renew it again within that, "
            + "over an open connection outside of transactions, or end the work.",
        error);

    public static LockException NotReleased(LockKey key, Exception error) => new(
        $"Lease '{key}' is still held, because the server has refused to let go of it: {error.Message} If a transaction of this connection "
            + "has failed, roll it back, then release again; else the lease ends by itself.",
        error);

    public static InvalidOperationException NothingToRenew(LockKey key) => new(
        $"Lock '{key}' has no time that could be renewed: only a lease has (LockOptions.Scope = LockScope.Lease).");
}
