using System.Collections.Concurrent;
using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>The commands that a driver keeps for a session of the server, one for each statement, to use them again.</summary>
/// <typeparam name="T">The provider's command or batch.</typeparam>
internal sealed class KeptCommands<T>
    where T : class
{
    // More than the statements of any dialect. When texts that are made for each call have filled it, everything is dropped.
    private const int Most = 64;

    // How many comments have commands of their own. A comment names a lock, so that each name makes a text of its own, and a prepared text
    // stays in the server's session, which a pool keeps for days. The first names of the process that were used again in one session have
    // them.
    private const int MostComments = 16;

    private static readonly ConcurrentDictionary<string, bool> Comments = new(StringComparer.Ordinal);

    private readonly Dictionary<(LockStatement Statement, string? Comment), Place> _places = new(SameTexts.Instance);
    private DbConnection? _wrapper;

    /// <summary>Returns the place for a statement's command, whatever its comment; null at the statement's first use.</summary>
    /// <param name="wrapper">The wrapper around the provider's connection that the command is for; null for none.</param>
    /// <param name="statement">The statement.</param>
    /// <remarks>
    /// A command of a pooled session may have been made for another connection object, so the driver sets the connection on each command
    /// that it takes.
    /// </remarks>
    public Place? Of(DbConnection? wrapper, LockStatement statement) =>
        Find(wrapper, statement, null) is var place && place.IsUsedAgain() ? place : null;

    /// <summary>
    /// Returns the place for the command of a statement with its comment; null at its first use, and where no command is kept for the
    /// comment.
    /// </summary>
    /// <param name="wrapper">The wrapper around the provider's connection that the command is for; null for none.</param>
    /// <param name="statement">The statement. Its comment is removed where one command serves every name.</param>
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
            // A statement that is not prepared is made anew, with its own comment.
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
                // A command that was made for one wrapper must not be sent for another.
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

    /// <summary>The place for one command. It may be empty.</summary>
    public sealed class Place
    {
        private Command? _command;
        private string? _comment;
        private bool _isUsed;
        private volatile bool _isDeallocated;

        /// <summary>
        /// Gets whether the command may be prepared. It may not after somebody has deallocated it, because they would do so again, and
        /// providers do not notice.
        /// </summary>
        public bool MayPrepare => !_isDeallocated;

        /// <summary>
        /// Takes the command out, so that no other call can write its values into it meanwhile; null when the place is empty.
        /// </summary>
        public Command? Take() => Interlocked.Exchange(ref _command, null);

        /// <summary>Puts the command back after a use without an error.</summary>
        public void GiveBack(Command command) => _command = command;

        /// <summary>
        /// Says whether an error means that a prepared statement is gone, because of a DISCARD ALL or DEALLOCATE ALL on the connection.
        /// Nothing of the statement was run, and it is not prepared again.
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

    // Two statements have the same texts if their commands have, and if both may be prepared or neither: nothing prepared may be used where
    // that is not allowed.
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
