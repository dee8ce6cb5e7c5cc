namespace DbLock;

/// <summary>How long leases may be.</summary>
internal static class LeaseTimes
{
    public static readonly TimeSpan Shortest = TimeSpan.FromSeconds(2);
    public static readonly TimeSpan Longest = TimeSpan.FromDays(10);
    public static readonly TimeSpan LongestLeast = TimeSpan.FromDays(365);
}
