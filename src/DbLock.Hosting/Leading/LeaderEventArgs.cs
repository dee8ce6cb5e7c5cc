namespace DbLock;

/// <summary>What has changed in an election (<see cref="ILeader.Changed"/>).</summary>
public sealed class LeaderEventArgs : EventArgs
{
    /// <summary>Initializes a new instance.</summary>
    /// <param name="change">What has changed.</param>
    /// <param name="fencingToken">The fencing token of the term that begins or has ended; null where there is none.</param>
    public LeaderEventArgs(LeaderChange change, long? fencingToken) => (Change, FencingToken) = (change, fencingToken);

    /// <summary>Gets what has changed.</summary>
    public LeaderChange Change { get; }

    /// <summary>Gets the fencing token of the term that begins or has ended; null where there is none.</summary>
    public long? FencingToken { get; }
}
