using System.Globalization;
using System.Runtime.ExceptionServices;
using System.Text.Json;

namespace DbLock;

/// <summary>Reads who holds leases.</summary>
internal static class LeaseHolders
{
    /// <summary>Reads the answer to <see cref="LeaseDialect.Look"/> for one key.</summary>
    public static LockHolders Read(LockKey key, object? answer) => Of(key, ReadAll(answer));

    /// <summary>Returns the holders of a key.</summary>
    public static LockHolders Of(LockKey key, IEnumerable<LockLease> leases) => new(
        key,
        [
            .. leases.Where(lease => key.SlotCount == 0 ? lease.Slot == 0 : lease.Slot >= 1 && lease.Slot <= key.SlotCount).Select(
                static lease => new LockHolder(null, Shared: false, null) { Lease = lease, HeldFor = lease.Clock - lease.Since }),
        ],
        waiting: 0);

    /// <summary>Asks over the connection of a <see cref="Lock"/> who holds its lease.</summary>
    public static async ValueTask<LockHolders> Ask(Conversation conversation, LeaseDialect leases, bool async)
    {
        var (key, options) = (conversation.Key, conversation.Options);
        var answer = await conversation.Ask(
            leases.Look(options.LeaseTable, Leasing.Rows(leases, key, options, "")), async).ConfigureAwait(false);
        if (answer.Error is { } error)
        {
            ExceptionDispatchInfo.Throw(error);
        }

        return Read(key, answer.Value);
    }

    /// <summary>Reads the answer to <see cref="LeaseDialect.Look"/>, in the order of the names.</summary>
    public static IReadOnlyList<LockLease> ReadAll(object? answer)
    {
        using var json = JsonDocument.Parse(answer as string ?? "[]");
        return
        [
            .. json.RootElement.EnumerateArray().Select(Read)
                .OrderBy(lease => lease.Name, StringComparer.Ordinal).ThenBy(lease => lease.Slot),
        ];
    }

    private static LockLease Read(JsonElement row)
    {
        var holder = row.GetProperty("h").GetString() ?? "";
        var (at, colon) = (holder.LastIndexOf('@'), holder.LastIndexOf(':'));
        var isOurs = at >= 0 && colon > at;
        return new LockLease
        {
            Name = row.GetProperty("k").GetString() ?? "",
            Slot = row.GetProperty("s").GetInt32(),
            IsReleased = row.GetProperty("o").GetString() is null or "" or ['-', ..],
            Token = row.GetProperty("t").GetInt64(),
            Application = isOurs ? holder[..at] : holder,
            Host = isOurs ? holder[(at + 1)..colon] : null,
            Process = isOurs
                && int.TryParse(holder.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var id) ? id : null,
            Note = row.GetProperty("n").GetString() ?? "",
            Since = Time(row, "b"),
            Until = Time(row, "e"),
            Clock = Time(row, "c"),
        };
    }

    private static DateTimeOffset Time(JsonElement row, string name) =>
        DateTimeOffset.UnixEpoch + TimeSpan.FromMicroseconds(row.GetProperty(name).GetInt64());
}
