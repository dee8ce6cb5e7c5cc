using System.Diagnostics;

namespace DbLock;

/// <summary>
/// How long what a server has said of a connection that only locks use can be believed: it is counted from when the server was asked, since
/// the answer may have lain unread.
/// </summary>
/// <remarks>
/// It asks nobody, and is told what was asked and answered, at times on the clock of <see cref="Stopwatch"/>. One thread asks, any thread
/// may look. A field of what has it; never copied.
/// </remarks>
internal struct TrustWindow
{
    /// <summary>
    /// How long an answer is good for. PostgreSQL lets go of a client that has fallen silent five seconds later
    /// (<see cref="PostgreSqlSettings"/>), so that who held has been told by then.
    /// </summary>
    public static readonly TimeSpan Length = TimeSpan.FromSeconds(15);

    /// <summary>How long after an answer the server is asked again; no older an answer needs to be asked for once more.</summary>
    public static readonly TimeSpan Beat = TimeSpan.FromMilliseconds(500);

    private long _confirmed;
    private long _owed;

    /// <summary>Notes that the server is asked.</summary>
    public void Ask(long now) => Volatile.Write(ref _owed, now);

    /// <summary>Notes that the server has answered, and that what is held is held: the trust begins anew at the question.</summary>
    public void Confirm()
    {
        Volatile.Write(ref _confirmed, _owed);
        Volatile.Write(ref _owed, 0);
    }

    /// <summary>Notes that the question has ended in something else; what was confirmed before stays so.</summary>
    public void Fail() => Volatile.Write(ref _owed, 0);

    /// <summary>Returns how long ago the question was asked whose answer is the last that is believed.</summary>
    public readonly TimeSpan Age(long now) => Stopwatch.GetElapsedTime(Volatile.Read(in _confirmed), now);

    /// <summary>Returns how long ago the question was asked that is not answered yet; zero when there is none.</summary>
    public readonly TimeSpan Owed(long now) =>
        Volatile.Read(in _owed) is not 0 and var asked ? Stopwatch.GetElapsedTime(asked, now) : TimeSpan.Zero;

    /// <summary>Returns how much longer the last answer is good for; zero when it is not any more.</summary>
    /// <param name="now">The time.</param>
    /// <param name="grace">How much time a question has in any case to be answered, be it under way or still to be asked.</param>
    public readonly TimeSpan Left(long now, TimeSpan grace = default)
    {
        var (left, least) = (Length - Age(now), grace - Owed(now));
        left = left > least ? left : least;
        return left > TimeSpan.Zero ? left : TimeSpan.Zero;
    }

    /// <summary>Returns whether the last answer is too old to be believed.</summary>
    public readonly bool HasRunOut(long now) => Age(now) > Length;
}
