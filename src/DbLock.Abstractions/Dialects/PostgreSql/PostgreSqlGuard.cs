namespace DbLock;

/// <summary>What is looked at before a lock is touched, in the same round trip.</summary>
/// <param name="Server">Whether a standby and a server without real locks are refused.</param>
/// <param name="Session">
/// Whether a session that is not the client's is refused in session scope, and told in transaction scope: only a hold of session scope
/// outlives the transaction, for which a pooler keeps one server session.
/// </param>
/// <param name="HeldIn">Whether it may be the transaction that holds the lock already.</param>
/// <param name="Fencing">
/// Whether a transaction is refused that has its number already, and a grant in session scope answers with its token.
/// </param>
internal readonly record struct PostgreSqlGuard(bool Server, bool Session, bool HeldIn, bool Fencing)
{
    public PostgreSqlGuard(in LockRequest request)
        : this(!request.IsDirect, !request.IsDirect && request.SessionId is not null, request.HeldIn != 0, request.Fencing)
    {
    }
}
