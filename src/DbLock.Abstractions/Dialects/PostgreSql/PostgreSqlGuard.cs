namespace DbLock;

/// <summary>What the statement checks before it locks anything, in the same round trip.</summary>
/// <param name="Server">Whether a standby, and a server without real locks, are refused.</param>
/// <param name="Session">
/// Whether a session that is not the client's is refused (in session scope) or told (in transaction scope). Transaction scope needs no
/// more, because a pooler keeps one server session for the length of a transaction.
/// </param>
/// <param name="HeldIn">Whether the statement compares its transaction with the one that was granted the lock before.</param>
/// <param name="Fencing">
/// Whether a transaction that has its number already is refused, and a grant in session scope answers with a fencing token.
/// </param>
internal readonly record struct PostgreSqlGuard(bool Server, bool Session, bool HeldIn, bool Fencing)
{
    public PostgreSqlGuard(in LockRequest request)
        : this(!request.IsDirect, !request.IsDirect && request.SessionId is not null, request.HeldIn != 0, request.Fencing)
    {
    }
}
