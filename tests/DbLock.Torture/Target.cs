using System.Globalization;

namespace DbLock.Torture;

/// <summary>A key that the workers fight for, and the resource behind it.</summary>
/// <param name="Number">The number, or the pair as one.</param>
/// <param name="IsPair">Whether it is a pair.</param>
/// <param name="IsFenced">Whether it is only ever held alone and with a fencing token, which its resource checks.</param>
/// <param name="IsLong">Whether it is held for long, on connections that are the lock's own: a loss must be told meanwhile.</param>
internal sealed record Target(long Number, bool IsPair, bool IsFenced, bool IsLong = false)
{
    public static readonly Target[] All =
    [
        new(1001, false, IsFenced: true),
        new(1002, false, IsFenced: true),
        new(1003, false, IsFenced: false),
        new(1004, false, IsFenced: false),
        new((7L << 32) | 1, true, IsFenced: false),
        new(2001, false, IsFenced: false, IsLong: true),
        new(2002, false, IsFenced: true, IsLong: true),
        new(2003, false, IsFenced: false, IsLong: true),
    ];

    public LockKey Key => IsPair ? ((int)(Number >> 32), (int)Number) : Number;

    public override string ToString() => IsPair ? $"({Number >> 32},{(int)Number})" : Number.ToString(CultureInfo.InvariantCulture);
}
