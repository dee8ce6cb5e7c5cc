namespace DbLock.Drivers;

/// <summary>
/// The texts of an engine for one table of leases. Each but the first and the last has one parameter, <c>{0}</c>: the rows as JSON
/// (<see cref="LeaseRow.ToJson"/>). The texts of an array are sent one after the other, each as a transaction of its own, and the first
/// that answers with a row answers for all.
/// </summary>
/// <remarks>
/// All but <see cref="Look"/> and <see cref="Clear"/> answer with one text: the server's clock in microseconds since 1970, then for each
/// row that is now as it was asked a comma and owner, slot and token with spaces between (<see cref="LeaseReply"/>); <see cref="Release"/>
/// answers with the rows that were let go, and needs no token. Where a session can be known by its number, <c>+ 0</c> and that number stand
/// behind the rows (<see cref="LeaseReply.Session"/>).
/// </remarks>
public sealed record LeaseTexts
{
    /// <summary>Gets the DDL that creates the table if there is none.</summary>
    public required string Create { get; init; }

    /// <summary>Gets what takes each row that nobody else has; the rows have different owners.</summary>
    public required LockSql[] Acquire { get; init; }

    /// <summary>Gets what takes all rows or none; they have one owner and, in the end, one token.</summary>
    public required LockSql[] AcquireAll { get; init; }

    /// <summary>Gets what renews the rows that their owners still have and that have not run out.</summary>
    public required LockSql[] Renew { get; init; }

    /// <summary>
    /// Gets what clears the owner of the rows that their owners still have, and ends them now or when their least time is over.
    /// </summary>
    public required LockSql[] Release { get; init; }

    /// <summary>
    /// Gets what answers with a JSON array of the rows that are not free, of the names that are given or of all: <c>k</c>, <c>s</c>,
    /// <c>o</c>, <c>t</c>, <c>h</c>, <c>n</c> as in <see cref="LeaseRow.ToJson"/>, <c>b</c> and <c>e</c> for the microseconds since 1970 at
    /// which it was taken and runs out, and <c>c</c> for the server's clock.
    /// </summary>
    public required LockSql[] Look { get; init; }

    /// <summary>
    /// Gets what fails, or answers with <see cref="LeaseReply.Uncommitted"/>, where what was written just before on this connection is not
    /// committed yet. It is asked on the connection of a caller, who may have begun a transaction. Empty where the answers to the other
    /// texts tell that already.
    /// </summary>
    public LockSql[] Committed { get; init; } = [];

    /// <summary>
    /// Gets what takes one slot: of the row that is given, the slot is the number of slots. It takes the lowest from 1 that is free and
    /// whose row exists, or the one that the owner has already. It answers with that row, if any, and with <c>- 0</c> and how many of the
    /// rows exist. Empty where there are no slots.
    /// </summary>
    public LockSql[] AcquireSlot { get; init; } = [];

    /// <summary>Gets what makes the rows that do not exist yet, so that they are free; it answers as a release does.</summary>
    public LockSql[] MakeSlots { get; init; } = [];

    /// <summary>
    /// Gets what deletes the rows that ended a day ago or earlier and whose token is less than that of a new row, and answers with their
    /// number as a text.
    /// </summary>
    public required LockSql[] Clear { get; init; }
}
