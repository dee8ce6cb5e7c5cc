namespace DbLock.Drivers;

/// <summary>One lock as a carrier's session has it: a number or a pair, exclusive or shared.</summary>
/// <param name="Number">The number; of a pair, the first in the high 32 bits.</param>
/// <param name="IsPair">Whether it is a pair.</param>
/// <param name="Shared">Whether it is shared.</param>
/// <param name="Group">Which of the acquires it belongs to: all of a group are taken, or none.</param>
/// <param name="Heeds">The least level of the claims of others that keep it from being taken; 0 for none.</param>
public readonly record struct CarriedLock(long Number, bool IsPair, bool Shared, int Group = 0, int Heeds = 0)
{
    /// <summary>
    /// The bit at which the level of a claim begins: keys that people number have nothing there, so that no two claims are one.
    /// </summary>
    public const int LevelBit = 60;

    /// <summary>The highest level of a claim; the least is 1.</summary>
    public const int HighestClaim = 7;

    /// <summary>What the number of a key is combined with (XOR), together with the level, to be that of a claim on it.</summary>
    public const long ClaimOnNumber = 0x0C19_0C5A_17E2_D84B;

    /// <summary>The same for a pair. A claim is never a pair.</summary>
    public const long ClaimOnPair = 0x0E73_51B4_C9D6_A7F5;

    /// <summary>
    /// Returns a claim on this key: a shared lock that a process holds which waits for the key, and for which others make way.
    /// </summary>
    /// <param name="level">From 1 to <see cref="HighestClaim"/>.</param>
    /// <param name="group">As <see cref="Group"/>.</param>
    public CarriedLock Claim(int level, int group = 0) =>
        new(Number ^ ((IsPair ? ClaimOnPair : ClaimOnNumber) | ((long)level << LevelBit)), IsPair: false, Shared: true, group);
}
