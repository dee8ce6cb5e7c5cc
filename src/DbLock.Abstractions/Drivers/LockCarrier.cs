using System.Globalization;
using System.Text;

namespace DbLock.Drivers;

/// <summary>The statements of a session that carries the locks of a pool. None of them waits in the server.</summary>
public abstract class LockCarrier
{
    // PostgreSQL takes less than 8,000 bytes in a notification: https://www.postgresql.org/docs/current/sql-notify.html
    private const int MostToTell = 7000;

    /// <summary>Stands in an answer in place of whether others listen, when that was not checked.</summary>
    protected const string NotLooked = "-";

    /// <summary>
    /// The lock that a pool holds shared while it listens for releases. A session that can have it exclusively knows that nobody listens.
    /// </summary>
    public static readonly CarriedLock Listening = new(LockKey.From("DbLock.LockPool listens").Number, IsPair: false, Shared: true);

    /// <summary>
    /// Gets whether the engine locks names and not numbers; false by default. A lock that the session holds already under another key of
    /// the same name counts as held elsewhere.
    /// </summary>
    public virtual bool LocksNames => false;

    /// <summary>Gets whether the engine has shared locks; true by default. Without, a pool refuses them.</summary>
    public virtual bool HasShared => true;

    /// <summary>Gets whether a driver may prepare the statements; true by default.</summary>
    public virtual bool MayPrepare => true;

    /// <summary>Gets how many locks one statement takes at most, and how many it lets go of; 4,096 by default.</summary>
    public virtual int MostPerStatement => 4096;

    /// <summary>
    /// Returns the statement that asks for how many more locks the server has room, and that checks whether its locks can be trusted.
    /// </summary>
    /// <param name="sessionId">The session that the client believes it speaks to; null when unknown, or when a pooler is trusted.</param>
    public abstract LockStatement Look(int? sessionId);

    /// <summary>Returns for how many more locks the server has room, of which some is left to others.</summary>
    /// <param name="answer">The answer to <see cref="Look"/>; null when none came back.</param>
    /// <exception cref="LockException">The server's locks cannot be trusted here.</exception>
    public abstract long ReadRoom(object? answer);

    /// <summary>Returns the statement that lets go of locks, then tells those who listen, then takes other locks that are free.</summary>
    /// <param name="releases">The locks to let go of.</param>
    /// <param name="acquires">
    /// The locks to take; those of a group stand one after the other. A lock is not taken while there is a claim of others that it heeds.
    /// </param>
    /// <param name="bell">
    /// The pool's name, with which begins what those who listen are told (<see cref="BellText"/>); empty when they are not told.
    /// </param>
    /// <param name="fencing">Whether the answer has a fencing token for the locks that are taken.</param>
    /// <param name="counts">Whether the answer tells how many locks the session holds after that.</param>
    public abstract LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts);

    /// <summary>
    /// Returns what those who listen are told: the pool's name, and the number of each key that was let go, after a space, with a "p"
    /// before that of a pair; or "*" in their place, where they are too many for a notification of PostgreSQL's.
    /// </summary>
    /// <param name="bell">The pool's name; for an empty one the text is empty.</param>
    /// <param name="releases">What is let go of. Of what is no key's lock (a claim, <see cref="Listening"/>) nobody is told.</param>
    public static string BellText(string bell, IReadOnlyList<CarriedLock> releases)
    {
        ArgumentNullException.ThrowIfNull(bell);
        ArgumentNullException.ThrowIfNull(releases);
        if (bell.Length == 0)
        {
            return "";
        }

        var text = new StringBuilder(bell);
        foreach (var one in releases.Where(one => one.Key is not null))
        {
            if (text.Length > MostToTell)
            {
                return $"{bell} *";
            }

            text.Append(CultureInfo.InvariantCulture, $" {(one.IsPair ? "p" : "")}{one.Number}");
        }

        return text.ToString();
    }

    /// <summary>
    /// Returns the statement that asks which of some locks this session holds. Its answer is a text with a digit for each, 1 or 0.
    /// </summary>
    /// <param name="locks">The locks.</param>
    public abstract LockStatement AreHeld(IReadOnlyList<CarriedLock> locks);

    /// <summary>Gets the statement with which a session begins to listen; null (default) when the server cannot notify.</summary>
    public virtual LockStatement? Listen => null;

    /// <summary>
    /// Gets the statement that lets go of every lock of the session and ends its listening, before the connection is given back; null when
    /// the engine cannot, so that the session is ended.
    /// </summary>
    public abstract LockStatement? ReleaseAll { get; }

    /// <summary>Says whether an error means that the server's lock table is full; false by default.</summary>
    /// <param name="codes">The error's codes.</param>
    public virtual bool IsFull(DbError codes) => false;

    /// <summary>Returns the statement that asks who holds some locks; null (default) when the server does not tell.</summary>
    /// <param name="keys">The keys, each a single one.</param>
    public virtual LockStatement? Holders(IReadOnlyCollection<LockKey> keys) => null;

    /// <summary>Reads the answer to <see cref="Holders"/>, which tells for each key who holds it.</summary>
    /// <param name="keys">The keys that were asked for.</param>
    /// <param name="answer">The value that came back; null when none did.</param>
    public virtual IReadOnlyDictionary<LockKey, LockHolders> ReadHolders(IReadOnlyCollection<LockKey> keys, object? answer) =>
        throw NotAnswered();

    /// <summary>
    /// Reads the answer to <see cref="Carry"/>. It is a text of five parts with <c>|</c> between them: a digit for each release; 1 when
    /// others listen and were told, nothing when nobody does, a dash when that was not checked; a digit for each acquire; the fencing
    /// token, or nothing; how many locks the session holds, or nothing.
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

    /// <summary>Returns the exception for an answer that has not this form.</summary>
    public static LockException NotAnswered() =>
        new("The server did not answer which locks were taken: something between changes its answers. Connect to it directly.");
}
