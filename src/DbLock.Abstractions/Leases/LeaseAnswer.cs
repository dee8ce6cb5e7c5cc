namespace DbLock;

/// <summary>What came of a statement about leases.</summary>
/// <param name="Value">The value that came back; null when none did, or an error.</param>
/// <param name="Asked">When the question was sent, on the clock of <see cref="System.Diagnostics.Stopwatch"/>.</param>
/// <param name="Error">The error; null when there was none.</param>
/// <param name="Trouble">What the error means.</param>
internal readonly record struct LeaseAnswer(object? Value, long Asked, Exception? Error = null, LeaseTrouble Trouble = default)
{
    /// <summary>Gets what the server has answered; null for an error.</summary>
    public LeaseReply? Reply { get; init; }

    /// <summary>Gets whether the provider has sent nothing.</summary>
    public bool IsNotSent { get; init; }

    /// <summary>Gets whether nobody knows whether the statement was done.</summary>
    public bool IsUnknown => Error is not null && Trouble == LeaseTrouble.Unknown;

    /// <summary>Gets whether there was no connection over which to send the statement.</summary>
    public bool IsUnsent { get; init; }

    /// <summary>Gets whether another was faster.</summary>
    public bool IsNotNow => Error is not null && Trouble is LeaseTrouble.NotNow or LeaseTrouble.Again;
}
