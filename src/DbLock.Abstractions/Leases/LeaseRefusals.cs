namespace DbLock;

/// <summary>The exceptions with which a lease is refused or fails. Each message is written here and nowhere else.</summary>
internal static class LeaseRefusals
{
    public static NotSupportedException NoLeases(LockDialect dialect) => new(
        $"{dialect.Name} has no leases here: leave LockOptions.Scope at Session, or give LockOptions.Dialect one that has leases.");

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
        $"Lease '{key}' is not acquired, because this server takes no writes at present: it is a standby, or a node of a cluster without "
            + "its fellows. Connect to the primary, or try again when it does.",
        error);

    public static LockException Refused(LockKey key, Exception error) => new(
        $"Lease '{key}' is not acquired, because the server has refused the statement: {error.Message}", error);

    public static LockException NotConnected(LockKey key, Exception error) => error as LockException ?? new(
        $"Lease '{key}' is not acquired, because no connection to the server could be opened: {error.Message}", error);

    public static LockException Unknown(LockKey key, Exception? error) => new(
        $"The server did not answer whether it gave lease '{key}', so that nobody knows who holds it. The lease is not acquired, and what "
            + "was given all the same is let go or ends by itself: look at the server and the network, then try again.",
        error);

    public static LockLostException Lost(LockKey key, Exception? error) => new(
        $"Lease '{key}' was lost: it was not renewed in time, because the server could not be reached, its clock went forward, or this "
            + "process stood still; or its row was changed by somebody else. The work under it may not have been alone: check it.",
        error);

    public static ArgumentException NotOnConnection(string parameter) => new(
        "A lease is taken from a data source, which renews it over connections that it borrows: call dataSource.AcquireLock with these "
            + "options, or leave LockOptions.Scope at Session.",
        parameter);
}
