using System.Collections;

namespace DbLock;

/// <summary>What was really signalled, and what is really gone.</summary>
public sealed class PgClearResult : IReadOnlyList<PgClearedSession>
{
    private readonly IReadOnlyList<PgClearedSession> _sessions;

    internal PgClearResult(IReadOnlyList<PgClearedSession> sessions) => _sessions = sessions;

    /// <summary>Gets whether nothing that matched is left in the way. In a dry run it is true only when nothing matched.</summary>
    public bool IsClear => _sessions.All(session => !session.IsLeft);

    /// <inheritdoc />
    public int Count => _sessions.Count;

    /// <inheritdoc />
    public PgClearedSession this[int index] => _sessions[index];

    /// <inheritdoc />
    public IEnumerator<PgClearedSession> GetEnumerator() => _sessions.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Demands that the way is clear.</summary>
    /// <exception cref="LockException">Something is left in the way; the message says what, why, and what helps.</exception>
    public void ThrowIfNotClear()
    {
        if (!IsClear)
        {
            var left = _sessions.Where(session => session.IsLeft).Select(session => session.ToString());
            throw new LockException($"The way is not clear: {string.Join("; ", left)}.");
        }
    }

    /// <summary>Returns it in words, one line for each session.</summary>
    public override string ToString() => string.Join(Environment.NewLine, _sessions.Select(session => session.ToString()));
}
