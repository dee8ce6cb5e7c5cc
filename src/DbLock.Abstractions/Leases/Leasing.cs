using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;

namespace DbLock;

/// <summary>What every lease is made of: its rows, its owner's id, and who is told to hold it.</summary>
internal static class Leasing
{
    private const int MostToTell = 200;

    // https://learn.microsoft.com/dotnet/api/system.environment.processid: none of these changes while the process lives.
    private static readonly string Holder = Cut(string.Create(
        CultureInfo.InvariantCulture,
        $"{Process.GetCurrentProcess().ProcessName}@{Environment.MachineName}:{Environment.ProcessId}"));

    /// <summary>Returns the statements of a dialect's leases.</summary>
    /// <exception cref="NotSupportedException">It has none.</exception>
    public static LeaseDialect Of(LockDialect dialect) => dialect.Leases ?? throw LeaseRefusals.NoLeases(dialect);

    /// <summary>Returns a new random id of an acquire.</summary>
    public static string NewOwner() => Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));

    /// <summary>Returns the rows of a key in the order in which they are asked for, each once.</summary>
    public static LeaseRow[] Rows(LeaseDialect dialect, LockKey key, LockOptions options, string owner, int slot = 0, long leastToken = 0)
    {
        var rows = Array.ConvertAll([.. key.Keys], one => new LeaseRow(dialect.Name(one), owner)
        {
            Slot = slot,
            Lease = options.Lease,
            AtLeast = options.AtLeast,
            LeastToken = leastToken,
            Holder = Holder,
            Note = Cut(options.Note ?? ""),
        });
        return rows is [_] ? rows : [.. rows.DistinctBy(row => row.Name).OrderBy(row => row.Name, StringComparer.Ordinal)];
    }

    /// <summary>Returns a row for each slot of a key, in their order.</summary>
    public static LeaseRow[] Slots(LeaseDialect dialect, LockKey key, LockOptions options, string owner) =>
        [.. Enumerable.Range(1, key.SlotCount).SelectMany(slot => Rows(dialect, key, options, owner, slot))];

    /// <summary>Returns the rows that an acquire may have been given: one for each key, or one for each slot.</summary>
    public static LeaseRow[] AllRows(LeaseDialect dialect, LockKey key, LockOptions options, string owner) =>
        key.SlotCount > 0 ? Slots(dialect, key, options, owner) : Rows(dialect, key, options, owner);

    /// <summary>Throws when a lease cannot be as the options ask, or when another lock asks for what leases alone have.</summary>
    /// <param name="options">The options.</param>
    /// <param name="parameter">The name of the parameter that they came in.</param>
    public static void Check(LockOptions options, string parameter)
    {
        if (options.Scope != LockScope.Lease)
        {
            if (options.AtLeast != TimeSpan.Zero)
            {
                throw LeaseRefusals.LeastOfSession(parameter);
            }

            return;
        }

        if (options.Shared || options.Reentrant)
        {
            throw LeaseRefusals.Exclusive(parameter);
        }

        if (options.Lease < LeaseTimes.Shortest || options.Lease > LeaseTimes.Longest)
        {
            throw LeaseRefusals.WrongLease(options.Lease, parameter);
        }

        if (options.AtLeast < TimeSpan.Zero || options.AtLeast > LeaseTimes.LongestLeast)
        {
            throw LeaseRefusals.WrongAtLeast(options.AtLeast, parameter);
        }

        if (options.ClockMargin is { } margin && (margin < TimeSpan.Zero || margin > options.Lease / 2))
        {
            throw LeaseRefusals.WrongMargin(margin, parameter);
        }
    }

    private static string Cut(string text)
    {
        var length = text.Length <= MostToTell ? text.Length : char.IsHighSurrogate(text[MostToTell - 1]) ? MostToTell - 1 : MostToTell;
        return text[..length].Replace("\0", "", StringComparison.Ordinal);
    }
}
