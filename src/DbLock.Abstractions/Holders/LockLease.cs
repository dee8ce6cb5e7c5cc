using System.Globalization;

namespace DbLock;

/// <summary>A lease as its row shows it (<see cref="LockScope.Lease"/>). Times are by the server's clock.</summary>
public sealed record LockLease
{
    /// <summary>Gets the name of the key in the table.</summary>
    public required string Name { get; init; }

    /// <summary>Gets the slot; 0 for a key that has none.</summary>
    public int Slot { get; init; }

    /// <summary>Gets whether it was released, and is only not given again yet (<see cref="LockOptions.AtLeast"/>).</summary>
    public bool IsReleased { get; init; }

    /// <summary>Gets the fencing token.</summary>
    public required long Token { get; init; }

    /// <summary>Gets the name of the program that holds it, as it says itself.</summary>
    public required string Application { get; init; }

    /// <summary>Gets the name of the machine on which the program runs; null when the row does not say.</summary>
    public string? Host { get; init; }

    /// <summary>Gets the number of the program's process; null when the row does not say.</summary>
    public int? Process { get; init; }

    /// <summary>Gets the holder's note (<see cref="LockOptions.Note"/>); empty for none.</summary>
    public string Note { get; init; } = "";

    /// <summary>Gets when it was acquired.</summary>
    public DateTimeOffset Since { get; init; }

    /// <summary>Gets when it ends unless it is renewed.</summary>
    public DateTimeOffset Until { get; init; }

    /// <summary>Gets the server's clock when it was asked.</summary>
    public DateTimeOffset Clock { get; init; }

    /// <summary>Returns it in words: <c>process 4711 of 'worker' on host-3 for 12 s, until 18:03:22Z unless renewed</c>.</summary>
    public override string ToString()
    {
        var who = (Process, Host) is ({ } process, { } host)
            ? string.Create(CultureInfo.InvariantCulture, $"process {process} of '{Application}' on {host}") : $"'{Application}'";
        var until = Until.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
        var note = Note.Length == 0 ? "" : $" ({Note})";
        return IsReleased
            ? $"nobody, but is not given again before {until}, after {who}{note} had it"
            : $"{who}{note} for {(Clock - Since).InWords()}, until {until} unless renewed";
    }
}
