namespace DbLock.Drivers;

/// <summary>One lock of a carrier's session: a number or a pair, exclusive or shared.</summary>
/// <param name="Number">The number; of a pair, the first in the high 32 bits.</param>
/// <param name="IsPair">Whether it is a pair.</param>
/// <param name="Shared">Whether it is shared.</param>
/// <param name="Group">Which acquire it belongs to: all locks of a group are taken, or none.</param>
/// <param name="Heeds">The lowest level of other processes' claims that keep it from being taken; 0 for none.</param>
public readonly record struct CarriedLock(long Number, bool IsPair, bool Shared, int Group = 0, int Heeds = 0)
{
    /// <summary>
    /// Gets the key, for an engine that locks names (<see cref="LockCarrier.LocksNames"/>); null of a claim and of
    /// <see cref="LockCarrier.Listening"/>, which such an engine has not.
    /// </summary>
    public LockKey? Key { get; init; }

    /// <summary>
    /// The lowest bit of a claim's level. Keys that people number do not reach this bit, so that two claims never have one number.
    /// </summary>
    public const int LevelBit = 60;

    /// <summary>The highest level of a claim. The lowest is 1.</summary>
    public const int HighestClaim = 7;

    /// <summary>
    /// The constant with which the number of a key is combined (XOR), together with the level, to make the number of a claim on it.
    /// </summary>
    public const long ClaimOnNumber = 0x0C19_0C5A_17E2_D84B;

    /// <summary>The same constant for a pair. A claim itself is never a pair.</summary>
    public const long ClaimOnPair = 0x0E73_51B4_C9D6_A7F5;

    /// <summary>
    /// Returns a claim on this key: a shared lock of a process that waits for the key, which makes other processes let it go first.
    /// </summary>
    /// <param name="level">From 1 to <see cref="HighestClaim"/>.</param>
    /// <param name="group">As <see cref="Group"/>.</param>
    public CarriedLock Claim(int level, int group = 0) =>
        new(Number ^ ((IsPair ? ClaimOnPair : ClaimOnNumber) | ((long)level << LevelBit)), IsPair: false, Shared: true, group);
}
