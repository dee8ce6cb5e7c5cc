namespace DbLock;

/// <summary>What is done to a session that is in the way.</summary>
/// <remarks>Source: <see href="https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL"/>.</remarks>
public enum PgSignal
{
    /// <summary>
    /// Its running statement is cancelled (<c>pg_cancel_backend</c>). A session that is idle, in a transaction or not, does not even
    /// notice.
    /// </summary>
    Cancel,

    /// <summary>It is ended, with its transaction and all its locks (<c>pg_terminate_backend</c>).</summary>
    Terminate,

    /// <summary>It is cancelled and, where that has not helped within the grace, ended.</summary>
    CancelThenTerminate,
}
