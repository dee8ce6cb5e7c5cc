using System.Globalization;

namespace DbLock.Drivers;

/// <summary>What a dialect says over a session that carries the locks of many, and that never waits in the server.</summary>
public abstract class LockCarrier
{
    /// <summary>What stands in an answer for whether others listen, when that was not looked at.</summary>
    protected const string NotLooked = "-";

    /// <summary>
    /// The key that a pool holds shared while it wants to hear of releases: who can take it alone knows that nobody listens.
    /// </summary>
    public static readonly CarriedLock Listening = new(LockKey.From("DbLock.LockPool listens").Number, IsPair: false, Shared: true);

    /// <summary>
    /// Returns the statement that asks for how many more locks the server has room, and whether its locks can be trusted.
    /// </summary>
    /// <param name="sessionId">The session that the client believes it speaks to; null when unknown, or when a pooler is trusted.</param>
    public abstract LockStatement Look(int? sessionId);

    /// <summary>Returns for how many more locks the server has room without starving anybody.</summary>
    /// <param name="answer">The value that <see cref="Look"/> was answered; null when none came back.</param>
    /// <exception cref="LockException">The server's locks cannot be trusted here.</exception>
    public abstract long ReadRoom(object? answer);

    /// <summary>
    /// Returns the statement that lets go of locks, then rings the bell if anybody listens, then takes what is free of others.
    /// </summary>
    /// <param name="releases">What to let go of.</param>
    /// <param name="acquires">
    /// What to take; those of a group one after the other. None is taken that others have a claim on which it heeds.
    /// </param>
    /// <param name="bell">What to tell who listens; empty for nothing.</param>
    /// <param name="fencing">Whether the answer has a fencing token for what is taken.</param>
    /// <param name="counts">Whether the answer has how many locks the session holds after that.</param>
    public abstract LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts);

    /// <summary>Returns the statement that asks which of some locks this session holds: a text with a digit for each, 1 or 0.</summary>
    /// <param name="locks">The locks.</param>
    public abstract LockStatement AreHeld(IReadOnlyList<CarriedLock> locks);

    /// <summary>Gets the statement with which a session begins to listen; null when the server cannot tell of anything.</summary>
    public virtual LockStatement? Listen => null;

    /// <summary>Gets the statement that lets go of all that the session holds and ends its listening, before it goes back.</summary>
    public abstract LockStatement ReleaseAll { get; }

    /// <summary>Says whether an error means that the server's lock table is full; false by default.</summary>
    /// <param name="codes">The error's codes.</param>
    public virtual bool IsFull(DbError codes) => false;

    /// <summary>Returns the statement that asks who holds some locks; null (default) when the server does not tell.</summary>
    /// <param name="keys">The keys, each a single one.</param>
    public virtual LockStatement? Holders(IReadOnlyCollection<LockKey> keys) => null;

    /// <summary>Reads the answer to <see cref="Holders"/>: for each key who holds it.</summary>
    /// <param name="keys">The keys that were asked for.</param>
    /// <param name="answer">The value that came back; null when none did.</param>
    public virtual IReadOnlyDictionary<LockKey, LockHolders> ReadHolders(IReadOnlyCollection<LockKey> keys, object? answer) =>
        throw NotAnswered();

    /// <summary>
    /// Reads the answer to <see cref="Carry"/>, a text of five parts with <c>|</c> between them: a digit for each release, whether anybody
    /// else listens and was told (nothing for nobody, a dash when that was not looked at), a digit for each acquire, their fencing token
    /// (or nothing), how many locks the session holds (or nothing).
    /// </summary>
    /// <param name="answer">The value that came back; null when none did.</param>
    /// <exception cref="LockException">It is no such text.</exception>
    public static CarrierAnswer Read(object? answer)
    {
        var text = (answer as string).AsSpan();
        Span<Range> parts = stackalloc Range[6];
        if (text.Split(parts, '|') != 5)
        {
            throw NotAnswered();
        }

        var rang = text[parts[1]];
        var token = text[parts[3]];
        var count = text[parts[4]];
        return new(
            Digits(text[parts[0]]),
            rang is NotLooked ? null : rang.Length > 0,
            Digits(text[parts[2]]),
            token.Length == 0 ? 0 : long.Parse(token, CultureInfo.InvariantCulture),
            count.Length == 0 ? null : int.Parse(count, CultureInfo.InvariantCulture));
    }

    private static string Digits(ReadOnlySpan<char> digits) => digits switch { "" => "", "0" => "0", "1" => "1", _ => digits.ToString() };

    /// <summary>Returns the error for an answer that is none.</summary>
    public static LockException NotAnswered() =>
        new("The server did not answer which locks were taken: something between changes its answers. Connect to it directly.");
}
