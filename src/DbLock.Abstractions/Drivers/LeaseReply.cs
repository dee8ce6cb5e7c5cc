using System.Globalization;

namespace DbLock.Drivers;

/// <summary>A server's answer to a statement about leases.</summary>
/// <param name="Clock">The server's clock, in microseconds since 1970.</param>
/// <param name="Rows">Each row that is now as it was asked.</param>
public sealed record LeaseReply(long Clock, IReadOnlyList<(string Owner, int Slot, long Token)> Rows)
{
    /// <summary>
    /// Stands in place of the clock when the session does not commit by itself, so that what was answered may be rolled back.
    /// </summary>
    public const string Uncommitted = "uncommitted";

    /// <summary>Gets how many rows of the key's slots exist, where one slot was asked for.</summary>
    public int Slots { get; init; }

    /// <summary>
    /// Gets the number of the server's session that has answered; 0 where it is not told. If the client knows its session by the same
    /// number (<see cref="ILockDriver.SessionId"/>), no pooler stands between, and the next statements may be prepared.
    /// </summary>
    public long Session { get; init; }

    private static readonly char[] Between = ['[', ']', '"', ','];

    /// <summary>
    /// Reads an answer: the clock, then owner, slot and token of each row. Brackets and quotes of a JSON array are skipped. The token of
    /// the owner <c>-</c> is how many slots exist, and that of the owner <c>+</c> the number of the session.
    /// </summary>
    /// <param name="answer">The value that came back; null when none did.</param>
    /// <exception cref="LockException">It is no such text.</exception>
    public static LeaseReply Read(object? answer)
    {
        var parts = (answer as string ?? "").Split(Between, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (parts is [Uncommitted, ..])
        {
            throw new LockException(
                "The session of this connection does not commit by itself: autocommit is off, or a transaction is open. What it answers of "
                + "leases may be rolled back, so that none is acquired: turn autocommit on, and acquire outside of transactions.");
        }

        if (parts.Length == 0 || !Number(parts[0], out var clock))
        {
            throw NotAnswered();
        }

        var rows = new List<(string Owner, int Slot, long Token)>(parts.Length - 1);
        var (slots, session) = (0, 0L);
        foreach (var part in parts.AsSpan(1))
        {
            if (part.Split(' ') is not [var owner, var slot, var token] || !Number(slot, out var s) || !Number(token, out var t))
            {
                throw NotAnswered();
            }

            switch (owner)
            {
                case "-":
                    slots = (int)t;
                    break;
                case "+":
                    session = t;
                    break;
                default:
                    rows.Add((owner, (int)s, t));
                    break;
            }
        }

        return new LeaseReply(clock, rows) { Slots = slots, Session = session };
    }

    private static bool Number(string text, out long number) =>
        long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number);

    private static LockException NotAnswered() => new(
        "The server did not answer which leases were taken: something between changes its answers. Connect to it directly.");
}
