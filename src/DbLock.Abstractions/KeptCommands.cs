using System.Collections.Concurrent;
using System.Data;
using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>The commands that a driver keeps for each connection while it is open, one for each statement, to use them again.</summary>
/// <typeparam name="T">The provider's command or batch.</typeparam>
internal sealed class KeptCommands<T>
    where T : class
{
    // More than the locks of any dialect have. When texts that are made for each call have filled it, it begins anew.
    private const int Most = 64;

    // A comment that names a lock makes a text of its own for each name, and what is prepared stays in the server's session, which a pool
    // keeps for days: so many names have
    // that, the first of the process that were used again on one connection.
    private const int MostComments = 16;

    private readonly ConditionalWeakTable<DbConnection, OfConnection> _connections = [];
    private readonly ConcurrentDictionary<string, bool> _comments = new(StringComparer.Ordinal);

    /// <summary>Returns the place of a statement's command, whatever its comment; null at its first use.</summary>
    public Place? Of(DbConnection connection, LockStatement statement) =>
        Connection(connection).Find(connection, statement, null) is var place && place.IsUsedAgain() ? place : null;

    /// <summary>Returns the place of a statement's command that has its comment; null at its first use, and where none is kept.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="statement">The statement. Its comment is taken away where the command that is kept serves every name.</param>
    public Place? Of(DbConnection connection, ref LockStatement statement)
    {
        if (statement.Comment is not { } comment)
        {
            return Of(connection, statement);
        }

        if (!statement.MayPrepare)
        {
            return null;
        }

        var ofConnection = Connection(connection);
        if (_comments.ContainsKey(comment))
        {
            var named = ofConnection.Find(connection, statement, comment);
            return named.IsUsedAgain() ? named : null;
        }

        var place = ofConnection.Find(connection, statement, null);
        var isOfBefore = place.IsCommentOfBefore(comment);
        if (!place.IsUsedAgain())
        {
            // What is not prepared can have any comment.
            return null;
        }

        if (isOfBefore && _comments.Count < MostComments && _comments.TryAdd(comment, true))
        {
            var named = ofConnection.Find(connection, statement, comment);
            named.IsUsedAgain();
            return named;
        }

        statement = statement with { Comment = null };
        return place;
    }

    private OfConnection Connection(DbConnection connection) =>
        _connections.GetValue(Wrapper.Innermost(connection), static connection => new OfConnection(connection));

    /// <summary>The place of one command, or of none yet.</summary>
    public sealed class Place
    {
        private Command? _command;
        private string? _comment;
        private bool _isUsed;
        private volatile bool _isDeallocated;

        /// <summary>Gets whether the command may be prepared. Somebody who deallocates what is not theirs does so again, and providers do not notice it.</summary>
        public bool MayPrepare => !_isDeallocated;

        /// <summary>Takes the command out, so that no other call can come to write its own values into it; null when there is none.</summary>
        public Command? Take() => Interlocked.Exchange(ref _command, null);

        /// <summary>Puts it back after a use without an error, to be used again.</summary>
        public void GiveBack(Command command) => _command = command;

        /// <summary>
        /// Says whether an error means that a prepared statement is gone, which a DISCARD ALL or DEALLOCATE ALL on the connection does; it is not prepared again.
        /// Nothing of it was run.
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

    private sealed class OfConnection
    {
        private readonly Dictionary<(LockStatement Statement, string? Comment), Place> _places = new(SameTexts.Instance);
        private DbConnection? _maker;

        public OfConnection(DbConnection connection) => connection.StateChange += OnStateChange;

        public Place Find(DbConnection connection, LockStatement statement, string? comment)
        {
            lock (_places)
            {
                if (_maker != connection)
                {
                    // A command of one wrapper must not be sent for another.
                    _places.Clear();
                    _maker = connection;
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

        // Prepared statements are the session's, and a connection that is opened again may have another.
        private void OnStateChange(object sender, StateChangeEventArgs change)
        {
            if (change.CurrentState is ConnectionState.Closed or ConnectionState.Broken)
            {
                lock (_places)
                {
                    _places.Clear();
                }
            }
        }
    }

    private sealed class SameTexts : IEqualityComparer<(LockStatement Statement, string? Comment)>
    {
        public static SameTexts Instance { get; } = new();

        public bool Equals((LockStatement Statement, string? Comment) x, (LockStatement Statement, string? Comment) y)
        {
            var (first, second) = (x.Statement.Commands, y.Statement.Commands);
            if (first.Length != second.Length || x.Comment != y.Comment)
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
