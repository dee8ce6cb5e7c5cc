namespace DbLock;

/// <summary>How long the server's last answer is good for on a connection that only locks use.</summary>
internal static class TrustWindow
{
    /// <summary>
    /// Counted from the question. PostgreSQL lets go of a client that has fallen silent five seconds later
    /// (<see cref="PostgreSqlSettings"/>), so that who held has been told by then.
    /// </summary>
    public static readonly TimeSpan Length = TimeSpan.FromSeconds(15);
}
