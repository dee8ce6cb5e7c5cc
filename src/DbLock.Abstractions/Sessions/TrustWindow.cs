using System.Diagnostics;

namespace DbLock;

/// <summary>
/// For how long the last answer of a server is believed, on a connection that only locks use. The time counts from when the question was
/// sent, because the answer may have lain unread for any time.
/// </summary>
/// <remarks>
/// It asks nobody: it is told when a question was sent and when it was answered, in times of the clock of <see cref="Stopwatch"/>. One
/// thread writes, any thread may read. It is a struct that stands in one field and must not be copied.
/// </remarks>
internal struct TrustWindow
{
    /// <summary>
    /// How long an answer is good for. PostgreSQL ends the session of a silent client five seconds later
    /// (<see cref="PostgreSqlSettings"/>), so that the holder knows of its loss before another can have the lock.
    /// </summary>
    public static readonly TimeSpan Length = TimeSpan.FromSeconds(15);

    /// <summary>How long after an answer the server is asked again. An answer that is not older than this is not asked for again.</summary>
    public static readonly TimeSpan Beat = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// As <see cref="Beat"/>, on a connection whose end is heard: only a network that has fallen silent is found out by asking.
    /// </summary>
    public static readonly TimeSpan BeatWhileHearing = TimeSpan.FromSeconds(3);

    private long _confirmed;
    private long _owed;

    /// <summary>Notes that a question is sent.</summary>
    public void Ask(long now) => Volatile.Write(ref _owed, now);

    /// <summary>Notes that the server has confirmed what is held. The trust begins anew, from when the question was sent.</summary>
    public void Confirm()
    {
        Volatile.Write(ref _confirmed, _owed);
        Volatile.Write(ref _owed, 0);
    }

    /// <summary>Notes that the question was not answered with a confirmation. The trust in the last confirmation goes on.</summary>
    public void Fail() => Volatile.Write(ref _owed, 0);

    /// <summary>Returns how long ago the question was sent to which the last confirmation is the answer.</summary>
    public readonly TimeSpan Age(long now) => Stopwatch.GetElapsedTime(Volatile.Read(in _confirmed), now);

    /// <summary>Returns how long ago the question was sent that has no answer yet; zero when every question is answered.</summary>
    public readonly TimeSpan Owed(long now) =>
        Volatile.Read(in _owed) is not 0 and var asked ? Stopwatch.GetElapsedTime(asked, now) : TimeSpan.Zero;

    /// <summary>Returns how much longer the last confirmation is believed; zero when it is too old.</summary>
    /// <param name="now">The time.</param>
    /// <param name="grace">
    /// How much time a question has in any case to be answered, whether it was sent already or will be sent next.
    /// </param>
    public readonly TimeSpan Left(long now, TimeSpan grace = default)
    {
        var (left, least) = (Length - Age(now), grace - Owed(now));
        left = left > least ? left : least;
        return left > TimeSpan.Zero ? left : TimeSpan.Zero;
    }

    /// <summary>Returns whether the last answer is too old to be believed.</summary>
    public readonly bool HasRunOut(long now) => Age(now) > Length;
}
