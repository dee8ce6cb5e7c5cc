namespace DbLock;

/// <summary>A session that was in the way, and what became of it.</summary>
/// <param name="Locks">Its locks that were to be cleared, as they were when it was looked at.</param>
/// <param name="Outcome">What became of it.</param>
/// <param name="Signal">
/// The last signal that the server really sent: <see cref="PgSignal.Cancel"/> or <see cref="PgSignal.Terminate"/>; null when none was.
/// </param>
/// <param name="Reason">Why it was spared, refused or is still there, and what helps; null otherwise.</param>
public sealed record PgClearedSession(IReadOnlyList<PgLock> Locks, PgClearOutcome Outcome, PgSignal? Signal, string? Reason)
{
    /// <summary>Gets the session as it was; null for a prepared transaction, and for one that ended while it was looked at.</summary>
    public PgSession? Session => Locks[0].Session;

    /// <summary>Gets whether it may still be in the way.</summary>
    public bool IsLeft => Outcome is PgClearOutcome.Planned or PgClearOutcome.Spared or PgClearOutcome.Refused or PgClearOutcome.Remains;

    /// <summary>Returns it in words.</summary>
    public override string ToString()
    {
        var what = Outcome switch
        {
            PgClearOutcome.Planned => "would be signalled",
            PgClearOutcome.Spared => "was spared",
            PgClearOutcome.Refused => "was not signalled",
            PgClearOutcome.AlreadyGone => "had gone before it was signalled",
            PgClearOutcome.NotNeeded => $"{(Signal is null ? "was not signalled" : Did)}, and nobody with priority waits for it any more",
            PgClearOutcome.Ended => $"{Did}, and has ended",
            PgClearOutcome.LetGo => $"{Did}, and has let go",
            _ => $"{Did}, and is still there",
        };
        var others = Locks.Count > 1 ? $" (and {Locks.Count - 1} more)" : "";
        return $"{Locks[0]}{others}: it {what}{(Reason is null ? "" : $", because {Reason}")}";
    }

    private string Did => Signal == PgSignal.Cancel ? "was cancelled" : "was terminated";
}
