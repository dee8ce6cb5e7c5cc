using System.Collections.Concurrent;
using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>The commands that a driver keeps for a session of the server, one for each statement, to use them again.</summary>
/// <typeparam name="T">The provider's command or batch.</typeparam>
internal sealed class KeptCommands<T>
    where T : class
{
    // More than the locks of any dialect have. When texts that are made for each call have filled it, it begins anew.
    private const int Most = 64;

    // A comment that names a lock makes a text of its own for each name, and what is prepared stays in the server's session, which a pool
    // keeps for days: so many names have that, the first of the process that were used again in one session.
    private const int MostComments = 16;

    private static readonly ConcurrentDictionary<string, bool> Comments = new(StringComparer.Ordinal);

    private readonly Dictionary<(LockStatement Statement, string? Comment), Place> _places = new(SameTexts.Instance);
    private DbConnection? _wrapper;

    /// <summary>Returns the place of a statement's command, whatever its comment; null at its first use.</summary>
    /// <param name="wrapper">The wrapper around the provider's connection that the command is for; null for none.</param>
    /// <param name="statement">The statement.</param>
    /// <remarks>
    /// A command of a pooled session may have been made for another connection object: who takes it says which it is for.
    /// </remarks>
    public Place? Of(DbConnection? wrapper, LockStatement statement) =>
        Find(wrapper, statement, null) is var place && place.IsUsedAgain() ? place : null;

    /// <summary>Returns the place of a statement's command that has its comment; null at its first use, and where none is kept.</summary>
    /// <param name="wrapper">The wrapper around the provider's connection that the command is for; null for none.</param>
    /// <param name="statement">The statement. Its comment is taken away where the command that is kept serves every name.</param>
    public Place? Of(DbConnection? wrapper, ref LockStatement statement)
    {
        if (statement.Comment is not { } comment)
        {
            return Of(wrapper, statement);
        }

        if (Comments.ContainsKey(comment))
        {
            var named = Find(wrapper, statement, comment);
            return named.IsUsedAgain() ? named : null;
        }

        var place = Find(wrapper, statement, null);
        var isOfBefore = place.IsCommentOfBefore(comment);
        var isUsedAgain = place.IsUsedAgain();

        if (isUsedAgain && isOfBefore && Comments.Count < MostComments && Comments.TryAdd(comment, true))
        {
            var named = Find(wrapper, statement, comment);
            named.IsUsedAgain();
            return named;
        }

        if (!isUsedAgain || !statement.MayPrepare)
        {
            // What is not prepared can have any comment.
            return null;
        }

        statement = statement.WithoutComment;
        return place;
    }

    private Place Find(DbConnection? wrapper, LockStatement statement, string? comment)
    {
        lock (_places)
        {
            if (_wrapper != wrapper)
            {
                // A command of one wrapper must not be sent for another.
                _places.Clear();
                _wrapper = wrapper;
            }

            if (_places.TryGetValue((statement, comment), out var place))
            {
                return place;
            }

            if (_places.Count == Most)
            {
                _places.Clear();
            }

            return _places[(statement, comment)] = new Place();
        }
    }

    /// <summary>The place of one command, or of none yet.</summary>
    public sealed class Place
    {
        private Command? _command;
        private string? _comment;
        private bool _isUsed;
        private volatile bool _isDeallocated;

        /// <summary>
        /// Gets whether the command may be prepared. Somebody who deallocates what is not theirs does so again, and providers do not notice
        /// it.
        /// </summary>
        public bool MayPrepare => !_isDeallocated;

        /// <summary>
        /// Takes the command out, so that no other call can come to write its own values into it; null when there is none.
        /// </summary>
        public Command? Take() => Interlocked.Exchange(ref _command, null);

        /// <summary>Puts it back after a use without an error, to be used again.</summary>
        public void GiveBack(Command command) => _command = command;

        /// <summary>
        /// Says whether an error means that a prepared statement is gone, which a DISCARD ALL or DEALLOCATE ALL on the connection does; it
        /// is not prepared again. Nothing of it was run.
        /// </summary>
        public bool IsGone(Command command, DbException error)
        {
            // https://www.postgresql.org/docs/current/errcodes-appendix.html: invalid_sql_statement_name
            if (!command.IsPrepared || error.SqlState != "26000")
            {
                return false;
            }

            return _isDeallocated = true;
        }

        internal bool IsCommentOfBefore(string comment) => Interlocked.Exchange(ref _comment, comment) == comment;

        internal bool IsUsedAgain() => Interlocked.Exchange(ref _isUsed, true);
    }

    /// <summary>A command.</summary>
    public sealed class Command(T value)
    {
        public T Value { get; } = value;

        public bool IsPrepared { get; set; }
    }

    // A text is kept twice where it may be prepared at one time and not at another, so that nothing prepared is used where it may not.
    private sealed class SameTexts : IEqualityComparer<(LockStatement Statement, string? Comment)>
    {
        public static SameTexts Instance { get; } = new();

        public bool Equals((LockStatement Statement, string? Comment) x, (LockStatement Statement, string? Comment) y)
        {
            var (first, second) = (x.Statement.Commands, y.Statement.Commands);
            if (first.Length != second.Length || x.Comment != y.Comment || x.Statement.MayPrepare != y.Statement.MayPrepare)
            {
                return false;
            }

            for (var i = 0; i < first.Length; i++)
            {
                if (first[i].Sql != second[i].Sql)
                {
                    return false;
                }
            }

            return true;
        }

        public int GetHashCode((LockStatement Statement, string? Comment) key)
        {
            var hash = key.Comment?.GetHashCode(StringComparison.Ordinal) ?? 0;
            foreach (var command in key.Statement.Commands)
            {
                hash = (31 * hash) + RuntimeHelpers.GetHashCode(command.Sql);
            }

            return hash;
        }
    }
}
