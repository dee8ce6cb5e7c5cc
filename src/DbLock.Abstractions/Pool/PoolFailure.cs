namespace DbLock;

/// <summary>Why a round has not been answered.</summary>
/// <param name="Error">The error.</param>
/// <param name="IsFinal">Whether the server would answer with the same error again.</param>
/// <param name="IsFull">Whether its lock table is full.</param>
internal readonly record struct PoolFailure(Exception Error, bool IsFinal = false, bool IsFull = false);
