using System.Buffers;
using System.Text;
using System.Text.Json;

namespace DbLock.Drivers;

/// <summary>A row of a table of leases, as it is asked for.</summary>
/// <param name="Name">The name of the key in the table.</param>
/// <param name="Owner">The random id of the acquire.</param>
public readonly record struct LeaseRow(string Name, string Owner)
{
    /// <summary>How many bytes of UTF-8 a name in the table has at most.</summary>
    public const int LongestName = 512;

    /// <summary>Gets the slot: 0 for a key that has none.</summary>
    public int Slot { get; init; }

    /// <summary>Gets how long the lease lasts unless it is renewed.</summary>
    public TimeSpan Lease { get; init; }

    /// <summary>Gets for how long after the grant it is not given again.</summary>
    public TimeSpan AtLeast { get; init; }

    /// <summary>Gets the least token that a grant may answer with; 0 leaves it to the server.</summary>
    public long LeastToken { get; init; }

    /// <summary>Gets who asks, in words for people; at most 200 characters.</summary>
    public string? Holder { get; init; }

    /// <summary>Gets what else is told to people; at most 200 characters.</summary>
    public string? Note { get; init; }

    /// <summary>
    /// Returns rows as a JSON array of objects: <c>k</c> is the name, <c>s</c> the slot, <c>o</c> the owner, <c>d</c> and <c>a</c> the
    /// microseconds of the lease and of its least time, <c>t</c> the least token, <c>h</c> the holder, <c>n</c> the note. It is ASCII, so
    /// that no character set between the client and the server changes it.
    /// </summary>
    /// <param name="rows">The rows.</param>
    public static string ToJson(IReadOnlyList<LeaseRow> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var buffer = new ArrayBufferWriter<byte>(128 * Math.Max(1, rows.Count));
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            foreach (var row in rows)
            {
                json.WriteStartObject();
                json.WriteString("k"u8, row.Name);
                json.WriteNumber("s"u8, row.Slot);
                json.WriteString("o"u8, row.Owner);
                json.WriteNumber("d"u8, row.Lease.Ticks / TimeSpan.TicksPerMicrosecond);
                json.WriteNumber("a"u8, row.AtLeast.Ticks / TimeSpan.TicksPerMicrosecond);
                json.WriteNumber("t"u8, row.LeastToken);
                json.WriteString("h"u8, row.Holder ?? "");
                json.WriteString("n"u8, row.Note ?? "");
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }
}
