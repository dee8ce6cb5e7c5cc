namespace DbLock;

/// <summary>One lock as a carrier's session has it: a number or a pair, exclusive or shared.</summary>
/// <param name="Number">The number; of a pair, the first in the high 32 bits.</param>
/// <param name="IsPair">Whether it is a pair.</param>
/// <param name="Shared">Whether it is shared.</param>
/// <param name="Group">Which of the acquires it belongs to: all of a group are taken, or none.</param>
internal readonly record struct CarriedLock(long Number, bool IsPair, bool Shared, int Group = 0);
