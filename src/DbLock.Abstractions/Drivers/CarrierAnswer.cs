namespace DbLock.Drivers;

/// <summary>A server's answer to a round.</summary>
/// <param name="Released">A digit for each lock that was let go: 1 when it was held.</param>
/// <param name="OthersListen">Whether other processes listen for releases, and were told; null when that was not checked.</param>
/// <param name="Acquired">
/// A digit for each lock that was asked for: 1 when it is held now, 0 when it is held elsewhere, 2 when it is free and another of its group
/// is not.
/// </param>
/// <param name="Token">The fencing token of what is held now; 0 for none.</param>
/// <param name="Count">How many locks the session holds; null when that was not asked.</param>
public readonly record struct CarrierAnswer(string Released, bool? OthersListen, string Acquired, long Token, int? Count);
