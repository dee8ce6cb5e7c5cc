namespace DbLock.Tests.Acquiring;

/// <summary>Of what scope a lock is, and whether it knows of a transaction.</summary>
internal sealed record Place(string Name, LockScope Scope, bool IsInTransaction)
{
    public static Place Session { get; } = new("session", LockScope.Session, IsInTransaction: false);

    public static Place SessionInTransaction { get; } = new("session, tx", LockScope.Session, IsInTransaction: true);

    public static Place Transaction { get; } = new("transaction", LockScope.Transaction, IsInTransaction: true);

    public static Place[] All { get; } = [Session, SessionInTransaction, Transaction];

    /// <summary>Gets how PostgreSQL grants there.</summary>
    public Reply Granted => Scope == LockScope.Transaction ? Reply.GrantedInTransaction : Reply.Granted;
}
