namespace DbLock;

/// <summary>Why a round was not answered.</summary>
/// <param name="Error">The error.</param>
/// <param name="IsFinal">Whether the server would say the same again.</param>
/// <param name="IsFull">Whether its lock table is full.</param>
internal readonly record struct PoolFailure(Exception Error, bool IsFinal = false, bool IsFull = false);
