using System.Data;
using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>
/// What is known of one connection while it is open: the server's dialect, and the locks that it holds. The server shows neither how often
/// a lock was acquired nor by which lock object.
/// </summary>
internal sealed class Session
{
    private static readonly ConditionalWeakTable<DbConnection, Session> Sessions = [];

    private readonly Dictionary<LockIdentity.Name, Hold> _holds = [];
    private readonly List<Hold> _inTransaction = [];
    private readonly List<LeaseHold> _leases = [];
    private PhysicalSession? _current;
    private (LockInterface Interface, LockDialect Dialect)[] _lastDialects = [];
    private int _sweepAt = 16;

    private Session(DbConnection connection) => connection.StateChange += OnStateChange;

    /// <summary>Returns what is known of the provider's own connection. All wrappers of one connection share it.</summary>
    public static Session Of(DbConnection connection) => Sessions.GetValue(Wrapper.Innermost(connection), static c => new Session(c));

    /// <summary>Returns what the server speaks; of a closed connection, what the one spoke to which it was connected last.</summary>
    public LockDialect Dialect(DbConnection connection, LockInterface lockInterface, DbTransaction? transaction)
    {
        var session = (connection.State & ConnectionState.Open) == 0 ? null : Current(connection, lockInterface.Driver);
        foreach (var (asked, known) in session?.Dialects ?? _lastDialects)
        {
            if (asked == lockInterface)
            {
                return known;
            }
        }

        var dialect = Detect(connection, lockInterface, transaction);
        if (session is not null)
        {
            session.Dialects = [.. session.Dialects, (lockInterface, dialect)];
        }

        return dialect;
    }

    /// <summary>Returns what is known of the server's session behind the connection, which must be open.</summary>
    public PhysicalSession Current(DbConnection connection, ILockDriver driver) =>
        _current ??= PhysicalSession.Of(Wrapper.Innermost(connection), driver);

    /// <summary>
    /// Returns the place for the command that a driver keeps for a statement in the session behind a connection; null at the statement's
    /// first use.
    /// </summary>
    /// <remarks>The command is kept without the statement's comment: the driver writes its text anew each time.</remarks>
    public static KeptCommands<T>.Place? Kept<T>(DbConnection connection, ILockDriver driver, LockStatement statement)
        where T : class => Commands<T>(connection, driver, out var wrapper).Of(wrapper, statement);

    /// <summary>Returns the place for the command that a driver keeps for a statement with its comment; null where none is kept.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="driver">The driver.</param>
    /// <param name="statement">The statement. Its comment is removed where one command serves every name.</param>
    public static KeptCommands<T>.Place? Kept<T>(DbConnection connection, ILockDriver driver, ref LockStatement statement)
        where T : class => Commands<T>(connection, driver, out var wrapper).Of(wrapper, ref statement);

    /// <summary>Returns the holds that stand and have any name of an identity, each once.</summary>
    public Hold[] Find(LockIdentity identity)
    {
        lock (_holds)
        {
            Hold[] found = [];
            foreach (var name in identity.Names)
            {
                if (_holds.TryGetValue(name, out var hold) && hold.Stands && !found.Contains(hold))
                {
                    found = [.. found, hold];
                }
            }

            return found;
        }
    }

    public void Add(Hold hold)
    {
        lock (_holds)
        {
            // Npgsql uses its transaction object again, so that the holds of a transaction that has ended seem to stand in the next one.
            // Another transaction's number shows that they have ended.
            if (hold.TransactionId != 0)
            {
                if (_inTransaction.Count > 0 && _inTransaction[0].TransactionId != hold.TransactionId)
                {
                    _inTransaction.ForEach(static ended => ended.Release());
                    _inTransaction.Clear();
                }

                _inTransaction.Add(hold);
            }

            // Nothing tells when a transaction has ended, and the next hold mostly has the same name. So holds that have ended are removed
            // only when they may be half of all.
            if (_holds.Count >= _sweepAt)
            {
                foreach (var (ended, _) in _holds.Where(entry => !entry.Value.Stands).ToList())
                {
                    _holds.Remove(ended);
                }

                _sweepAt = Math.Max(16, 2 * _holds.Count);
            }

            foreach (var name in hold.Identity.Names)
            {
                _holds[name] = hold;
            }
        }
    }

    public void Add(LeaseHold hold)
    {
        lock (_leases)
        {
            _leases.RemoveAll(static ended => ended.IsEnded);
            _leases.Add(hold);
        }
    }

    /// <summary>Says whether the connection has all there is of one of some rows. A lease outlives the session.</summary>
    public bool HasLease(LeaseTable table, LeaseRow[] rows, int slots)
    {
        lock (_leases)
        {
            var now = Stopwatch.GetTimestamp();
            return Array.Exists(rows, row => _leases.Count(
                hold => hold.IsHeld(now) && hold.Options.LeaseTable == table && hold.Key.SlotCount == slots
                    && Array.Exists(hold.Rows, own => own.Name == row.Name)) >= Math.Max(1, slots));
        }
    }

    /// <summary>Returns the names of all locks that the connection holds, for messages.</summary>
    public string[] Held()
    {
        lock (_holds)
        {
            return [.. _holds.Values.Distinct().Where(hold => hold.Stands).Select(hold => $"'{hold.Key}'")];
        }
    }

    /// <summary>Ends every hold as lost, because the session has ended, and returns them.</summary>
    public Hold[] End()
    {
        lock (_holds)
        {
            Hold[] ended = [];
            foreach (var hold in _holds.Values)
            {
                // Most often none stands. One of several names is met once for each.
                if (hold.Stands && !ended.Contains(hold))
                {
                    ended = [.. ended, hold];
                }
            }

            _holds.Clear();
            _inTransaction.Clear();
            Array.ForEach(ended, static hold => hold.Lose());
            return ended;
        }
    }

    private static KeptCommands<T> Commands<T>(DbConnection connection, ILockDriver driver, out DbConnection? wrapper)
        where T : class
    {
        var inner = Wrapper.Innermost(connection);
        wrapper = inner == connection ? null : connection;
        return Of(inner).Current(inner, driver).Commands<T>(driver);
    }

    private static LockDialect Detect(DbConnection connection, LockInterface lockInterface, DbTransaction? transaction)
    {
        // The name of the connection's type is enough for most providers. A driver for many servers (ODBC) must be asked which one it
        // found.
        var inner = Wrapper.Innermost(connection);
        var product = $"{inner.GetType().FullName} {inner.ServerVersion}";
        return Speaker(product)
            ?? Speaker($"{product} {ProductName(inner)}")
            ?? Speaker($"{product} {lockInterface.Driver.ServerProduct(connection, transaction)}")
            ?? throw new LockException(
                $"It is unknown which SQL the server behind this {connection.GetType().FullName} speaks ({product}): name it as "
                    + "LockOptions.Dialect.");

        LockDialect? Speaker(string product) => lockInterface.Dialects.FirstOrDefault(dialect => dialect.Speaks(product));
    }

    private static string? ProductName(DbConnection connection)
    {
        try
        {
            return connection.GetSchema(
                DbMetaDataCollectionNames.DataSourceInformation).Rows[0][DbMetaDataColumnNames.DataSourceProductName] as string;
        }
        catch (Exception e) when (e is NotSupportedException or ArgumentException or IndexOutOfRangeException)
        {
            return null;
        }
    }

    // A connection that is closed inside of a TransactionScope leaves its session, with the locks of the transaction, to the scope.
    private bool IsLeftToTransaction(DbConnection connection)
    {
        lock (_holds)
        {
            // Each connection of a lock's own is closed after its release, and nothing stands then.
            var isLeft = false;
            foreach (var hold in _holds.Values)
            {
                if (hold.Stands)
                {
                    isLeft = hold.IsEnlisted && hold.Driver is IEnlistingDriver driver && driver.LeavesSession(connection);
                    if (!isLeft)
                    {
                        return false;
                    }
                }
            }

            return isLeft;
        }
    }

    private void OnStateChange(object sender, StateChangeEventArgs change)
    {
        if (change.CurrentState is not (ConnectionState.Closed or ConnectionState.Broken) || sender is not DbConnection connection)
        {
            return;
        }

        (_current, _lastDialects) = (null, _current?.Dialects ?? _lastDialects);
        if (IsLeftToTransaction(connection))
        {
            return;
        }

        // A pooled connection keeps its locks on the server until it is next used (Npgsql, SqlClient), so it may not go back.
        var ended = End();
        foreach (var hold in ended)
        {
            Log.ClosedWhileHeld(QuietLogger.Of(hold.Options.Logger), hold.Key);
        }

        if (ended.Length > 0)
        {
            ended[0].Driver.Discard(connection);
        }
    }
}
