using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>The commands that a driver keeps for a session of the server, one for each statement, to use them again.</summary>
/// <typeparam name="T">The provider's command or batch.</typeparam>
internal sealed class KeptCommands<T>
    where T : class
{
    // More than the locks of any dialect have. When texts that are made for each call have filled it, it begins anew.
    private const int Most = 32;

    private readonly Dictionary<LockStatement, Place> _places = new(SameTexts.Instance);
    private DbConnection? _wrapper;

    /// <summary>Returns the place of a statement's command; null at its first use.</summary>
    /// <param name="wrapper">The wrapper around the provider's connection that the command is for; null for none.</param>
    /// <param name="statement">The statement.</param>
    /// <remarks>A command of a pooled session may have been made for another connection object: who takes it says which it is for.</remarks>
    public Place? Of(DbConnection? wrapper, LockStatement statement)
    {
        var place = Find(wrapper, statement);
        return place.IsUsedAgain() ? place : null;
    }

    private Place Find(DbConnection? wrapper, LockStatement statement)
    {
        lock (_places)
        {
            if (_wrapper != wrapper)
            {
                // A command of one wrapper must not be sent for another.
                _places.Clear();
                _wrapper = wrapper;
            }

            if (_places.TryGetValue(statement, out var place))
            {
                return place;
            }

            if (_places.Count == Most)
            {
                _places.Clear();
            }

            return _places[statement] = new Place();
        }
    }

    /// <summary>The place of one command, or of none yet.</summary>
    public sealed class Place
    {
        private Command? _command;
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

        internal bool IsUsedAgain() => Interlocked.Exchange(ref _isUsed, true);
    }

    /// <summary>A command.</summary>
    public sealed class Command(T value)
    {
        public T Value { get; } = value;

        public bool IsPrepared { get; set; }
    }

    // A text is kept twice where it may be prepared at one time and not at another, so that nothing prepared is used where it may not.
    private sealed class SameTexts : IEqualityComparer<LockStatement>
    {
        public static SameTexts Instance { get; } = new();

        public bool Equals(LockStatement? x, LockStatement? y)
        {
            var (first, second) = (x!.Commands, y!.Commands);
            if (first.Length != second.Length || x.MayPrepare != y.MayPrepare)
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

        public int GetHashCode([DisallowNull] LockStatement statement)
        {
            var hash = 0;
            foreach (var command in statement.Commands)
            {
                hash = (31 * hash) + RuntimeHelpers.GetHashCode(command.Sql);
            }

            return hash;
        }
    }
}
