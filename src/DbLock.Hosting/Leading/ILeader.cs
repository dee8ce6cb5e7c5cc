using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>
/// The election of one instance of an application, which <c>AddLeader</c> adds: whether this one leads, and who does. A keyed service with
/// the election's key, and one without for the first election.
/// </summary>
/// <remarks><b>Threads.</b> May be used from anywhere.</remarks>
[SuppressMessage("Naming", "CA1716", Justification = "Key is the word for it everywhere.")]
public interface ILeader
{
    /// <summary>Gets the key of the lock that the leader holds.</summary>
    LockKey Key { get; }

    /// <summary>
    /// Gets whether this instance leads, as far as is known without asking the server; it looks at the clock, so that a process that was
    /// paused sees it. Ask before each step that must not be done twice.
    /// </summary>
    bool IsLeader { get; }

    /// <summary>
    /// Gets the fencing token of this instance's term, which is larger than those of all terms before it; null while it does not lead, and
    /// where its locks have none (<see cref="DbLockOptions.Fencing"/>).
    /// </summary>
    long? FencingToken { get; }

    /// <summary>
    /// Gets a token that fires when this instance's term ends: when it has lost the lock, or begins to stop. While it does not lead, the
    /// token has fired.
    /// </summary>
    CancellationToken Term { get; }

    /// <summary>
    /// Occurs when this instance's part has changed: before its service is started, and after that was stopped. What a handler throws is
    /// logged. The election waits for the handlers.
    /// </summary>
    event EventHandler<LeaderEventArgs>? Changed;

    /// <summary>Asks the server who leads, which takes about a tenth of a second.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>
    /// The holders of the lock: none while nobody leads; null where that is not told, which includes the leader itself over a pool
    /// (<see cref="IsLeader"/>).
    /// </returns>
    /// <exception cref="LockException">The server could not be asked.</exception>
    ValueTask<LockHolders?> GetHoldersAsync(CancellationToken cancellationToken = default);
}
