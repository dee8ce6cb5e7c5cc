using System.Data;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.ExceptionServices;
using Npgsql;
using static DbLock.Synchronously;

namespace DbLock;

/// <summary>A lock on one or more tables of PostgreSQL, held by the transaction that is open on the connection.</summary>
/// <remarks>
/// <para>
/// There is no release: the lock ends with the transaction, or with a rollback to a savepoint that is older than the lock. A table is
/// locked with its partitions and the tables that inherit from it, unless <see cref="TableName.Only"/> is set. What each mode keeps others
/// from doing:
/// <see href="https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES"/>.
/// </para>
/// <para>
/// Several tables are locked in one statement and in one order, whatever order and spelling they are given in, so that two callers do not
/// wait for each other. The order is asked of the server, which takes the snapshot of a REPEATABLE READ or SERIALIZABLE transaction before
/// the wait; one table alone takes none.
/// </para>
/// <para>
/// A call with a timeout, or with a token that was cancelled, ends within a second after it. Where the server has not answered by then, the
/// connection is given up, and the transaction is gone with it.
/// </para>
/// <para><b>Cancellation.</b> A cancelled wait ends in <see cref="OperationCanceledException"/>, the lock is not held, and the transaction
/// is as before, unless the server does not answer. A try is short and is not interrupted.</para>
/// <para><b>Threads.</b> A table lock, like its connection, is used by one call at a time.</para>
/// </remarks>
public sealed class TableLock
{
    // LOCK TABLE locks a table, then what inherits from it: breadth first, each generation by oid. So all of these are named here, in an
    // order that agrees with that: ancestors first, then by the oids on the way down. What the role may only lock as part of its ancestor
    // is left to that, and so is what joins the ancestor meanwhile: the tables that were asked for come once more at the end. What does not
    // exist comes first, so that it fails before it waits.
    private static readonly LockSql OrderOfTables = new("""
        with recursive asked as (
          select pg_catalog.to_regclass(a.name)::pg_catalog.oid as oid, a.name, a.is_only
          from rows from (
            pg_catalog.unnest({0}::pg_catalog.text::pg_catalog.text[]),
            pg_catalog.unnest({1}::pg_catalog.text::boolean[])) as a (name, is_only)
        ), wanted as (
          select a.oid, a.is_only from asked as a where a.oid is not null
          union
          select i.inhrelid, false from wanted as w join pg_catalog.pg_inherits as i on i.inhparent = w.oid where not w.is_only
        ), ways as (
          select w.oid, array[w.oid] as way from wanted as w
          union
          select w.oid, i.inhparent || w.way from ways as w join pg_catalog.pg_inherits as i on i.inhrelid = w.way[1]
        ), places as (
          select
            w.oid,
            pg_catalog.max(w.way[1]) as root,
            pg_catalog.max(pg_catalog.cardinality(w.way)) as generation,
            pg_catalog.max(w.way) as way
          from ways as w
          group by w.oid
        )
        select 'only ' || a.name from asked as a where a.oid is null
        union all
        (select
            case when p.oid in (select i.inhparent from pg_catalog.pg_inherits as i)
              or not exists (select from asked as a where a.oid = p.oid and not a.is_only)
            then 'only ' else '' end || pg_catalog.format('%I.%I', n.nspname, c.relname)
          from places as p join pg_catalog.pg_class as c on c.oid = p.oid join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
          where p.oid in (select a.oid from asked as a)
            or (pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_table_privilege(p.oid, {2}))
          order by p.root, p.generation, p.way)
        union all
        select distinct pg_catalog.format('%I.%I', n.nspname, c.relname)
          from asked as a join pg_catalog.pg_class as c on c.oid = a.oid join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
          where not a.is_only and a.oid in (select i.inhparent from pg_catalog.pg_inherits as i)
        """);

    private const string AccessShare = "access share";

    // The server counts lock_timeout anew for each table and partition that it waits for. statement_timeout limits what all of them take
    // together; it comes a little later, so that the first of them has an error code of its own.
    private const int StatementTimeoutDelay = 250;

    private static readonly LockInterface Interface = new("Npgsql", new TableDriver(), LockDialect.PostgreSql);
    private static readonly LockOptions Options = new() { Dialect = LockDialect.PostgreSql };
    private static readonly LockCommand MakeSavepoint = new(new LockSql("savepoint dblock_table"));
    private static readonly LockCommand ReleaseSavepoint = new(new LockSql("release savepoint dblock_table"));
    private static readonly LockStatement RollBack = new(
        new LockCommand(new LockSql("rollback to savepoint dblock_table")), ReleaseSavepoint);
    private static readonly LockCommand ShowLockTimeout = new(new LockSql("show lock_timeout"));
    private static readonly LockCommand ShowStatementTimeout = new(new LockSql("show statement_timeout"));
    private static readonly LockSql SetLockTimeout = new("set local lock_timeout = '{0}'");
    private static readonly LockSql SetStatementTimeout = new("set local statement_timeout = '{0}'");
    private static readonly LockSql LockTables = new("lock table {0} in {1} mode");
    private static readonly LockSql TryToLockTables = new("lock table {0} in {1} mode nowait");

    private readonly NpgsqlConnection _connection;
    private readonly string _mode;
    private readonly TableName[] _tables;

    /// <summary>Initializes a new lock on tables. Nothing is sent to the server.</summary>
    /// <param name="connection">The connection whose transaction will hold the lock; it stays the caller's.</param>
    /// <param name="mode">How strong the lock is.</param>
    /// <param name="tables">The tables, one or more.</param>
    /// <exception cref="ArgumentException">There is no table.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mode is none that can be asked for.</exception>
    public TableLock(NpgsqlConnection connection, PgLockMode mode, params IEnumerable<TableName> tables)
    {
        ArgumentNullException.ThrowIfNull(connection);
        _connection = connection;
        _mode = mode switch
        {
            PgLockMode.AccessShare => AccessShare,
            PgLockMode.RowShare => "row share",
            PgLockMode.RowExclusive => "row exclusive",
            PgLockMode.ShareUpdateExclusive => "share update exclusive",
            PgLockMode.Share => "share",
            PgLockMode.ShareRowExclusive => "share row exclusive",
            PgLockMode.Exclusive => "exclusive",
            PgLockMode.AccessExclusive => "access exclusive",
            _ => throw new ArgumentOutOfRangeException(nameof(mode), mode, "A table cannot be locked in this mode: take one of the "
                + "eight from AccessShare to AccessExclusive."),
        };
        _tables = [.. tables];
        if (_tables.Length == 0 || _tables.Contains(null))
        {
            throw new ArgumentException("There is no table to lock: name at least one, and no null.", nameof(tables));
        }
    }

    private string Names => string.Join(", ", _tables.Select(table => table.ToString()));

    /// <summary>Acquires the lock.</summary>
    /// <param name="block">True waits for ever; false tries once.</param>
    /// <returns>
    /// True when the transaction holds the lock; false when it is held elsewhere, which only a try answers. The transaction is usable then,
    /// and as before.
    /// </returns>
    /// <exception cref="InvalidOperationException">No transaction is open, or the connection is closed.</exception>
    /// <exception cref="LockNotAcquiredException">
    /// The server ended the wait: its statement_timeout, or an administrator's cancel; or it ended the session, by its transaction_timeout.
    /// </exception>
    /// <exception cref="LockException">The server has not answered in time, or the connection broke.</exception>
    /// <exception cref="LockDeadlockException">The server ended the wait to break a deadlock.</exception>
    /// <exception cref="PostgresException">The server refused, for want of a table or a right (42P01, 42501).</exception>
    public bool Acquire(bool block = true) => Completed(Acquire(Timeout(block), async: false, CancellationToken.None));

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">From zero, which tries once, to about 24 days, rounded up to milliseconds;
    /// <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever. All tables share it.</param>
    /// <inheritdoc cref="Acquire(bool)" path="/returns"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is negative, or longer than the server can count.</exception>
    public bool Acquire(TimeSpan timeout) => Completed(Acquire(timeout, async: false, CancellationToken.None));

    /// <summary>Acquires the lock.</summary>
    /// <param name="block">True waits for ever; false tries once.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(bool)" path="/returns"/>
    /// <inheritdoc cref="Acquire(bool)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(bool block = true, CancellationToken cancellationToken = default) =>
        Acquire(Timeout(block), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting for ever.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="AcquireAsync(bool, CancellationToken)" path="/returns"/>
    /// <inheritdoc cref="AcquireAsync(bool, CancellationToken)" path="/exception"/>
    public ValueTask<bool> AcquireAsync(CancellationToken cancellationToken) =>
        Acquire(Timeout(block: true), async: true, cancellationToken);

    /// <summary>Acquires the lock, waiting no longer than a timeout.</summary>
    /// <param name="timeout">As for <see cref="Acquire(TimeSpan)"/>.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/returns"/>
    /// <inheritdoc cref="Acquire(TimeSpan)" path="/exception"/>
    /// <exception cref="OperationCanceledException">The wait was cancelled. The lock is not held.</exception>
    public ValueTask<bool> AcquireAsync(TimeSpan timeout, CancellationToken cancellationToken = default) =>
        Acquire(timeout, async: true, cancellationToken);

    private static TimeSpan Timeout(bool block) => block ? System.Threading.Timeout.InfiniteTimeSpan : TimeSpan.Zero;

    private async ValueTask<bool> Acquire(TimeSpan timeout, bool async, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var milliseconds = LockTimeouts.Milliseconds(timeout);
        if (_connection.State != ConnectionState.Open)
        {
            throw new InvalidOperationException($"The connection is {_connection.State}, not open: open it and begin a transaction "
                + $"before {Names} is locked.");
        }

        var conversation = new Conversation(_connection, Interface, Names, Options) { Limit = Limit.Of(timeout, cancellationToken) };
        var start = Stopwatch.GetTimestamp();
        var (answer, hasSavepoint) = await Ask(conversation, timeout, milliseconds, async, cancellationToken).ConfigureAwait(false);
        if (answer.Error is null)
        {
            return true;
        }

        var isOver = timeout > TimeSpan.Zero && Stopwatch.GetElapsedTime(start) >= timeout;
        var isCancelled = cancellationToken.IsCancellationRequested;
        var verdict = answer.Error is SilenceException ? Verdict.Silent : Judging.OfFailure(answer, isCancelled, conversation.IsOpen);
        if (hasSavepoint && conversation.IsOpen
            && await conversation.AskDespiteCancels(RollBack, async).ConfigureAwait(false) is { Error: { } error } undone)
        {
            // Whether the lock is held, and whether the transaction is usable, is not known.
            (answer, verdict) = (undone, error is SilenceException ? Verdict.Silent : Verdict.Failed);
        }

        switch (verdict)
        {
            case Verdict.TimedOut:
            case Verdict.EndedByServer when isOver:
                return false;
            case Verdict.Cancelled:
            case Verdict.Silent when isCancelled:
                throw Refusals.Cancelled(conversation.Key, answer.Error, cancellationToken, isSessionEnded: verdict == Verdict.Silent);
            case Verdict.Silent:
                throw Refusals.Silent(conversation.Key, answer.Error);
            case Verdict.EndedByServer:
                throw Refusals.EndedByServer(conversation.Key, holders: null, answer.Error);
            case Verdict.Broken:
                throw Refusals.Broken(conversation.Key, answer.Error);
            case Verdict.Deadlocked:
                throw new LockDeadlockException(
                    $"The wait for {Names} was ended by the server to break a deadlock, and the lock is not acquired. The transaction "
                        + "still holds its other locks: roll it back, so that the others can go on, then try again.",
                    answer.Error);
            case var _ when LockDialect.PostgreSql.IsSessionLimit(answer.Codes):
                throw Refusals.SessionEndedByLimit($"a lock on {Names}", answer.Error);
            case var _ when answer.Codes.SqlState == PostgresErrorCodes.NoActiveSqlTransaction:
                throw new InvalidOperationException(
                    $"{Names} cannot be locked outside a transaction, since the lock would be gone at once: begin a transaction on this "
                        + "connection, lock, and commit after the work.",
                    answer.Error);
            default:
                ExceptionDispatchInfo.Throw(answer.Error!);
                return false;
        }
    }

    // Returns the answer, and whether the savepoint was made: going back to one that was not made would go back to the caller's own, should
    // it have the same name. SHOW, SET and LOCK take no snapshot, as a SELECT would: after the wait a REPEATABLE READ transaction sees what
    // the last holder did.
    private async ValueTask<(Answer Answer, bool HasSavepoint)> Ask(
        Conversation conversation, TimeSpan timeout, string milliseconds, bool async, CancellationToken cancellationToken)
    {
        var (waits, isFinite, isSeveral) = (timeout != TimeSpan.Zero, timeout > TimeSpan.Zero, _tables.Length > 1);
        var (tables, lockTimeout, statementTimeout) = (Names, "", "");
        var hasSavepoint = waits || isSeveral;
        if (hasSavepoint)
        {
            // Not cancelled: a cancel that hit the savepoint itself would cost the transaction.
            var before = Statement(
                MakeSavepoint, waits ? ShowLockTimeout : null, isFinite ? ShowStatementTimeout : null, isSeveral ? Order() : null);
            var first = await conversation.Ask(before, async, CancellationToken.None).ConfigureAwait(false);
            if (first.Error is not null)
            {
                return (first, TableDriver.HasBegun(first.Error));
            }

            var rows = new Queue<string>((IEnumerable<string>)first.Value!);
            lockTimeout = waits ? rows.Dequeue() : lockTimeout;
            statementTimeout = isFinite ? rows.Dequeue() : statementTimeout;
            tables = isSeveral ? string.Join(", ", rows) : tables;
        }

        var statement = Statement(
            hasSavepoint ? null : MakeSavepoint,
            waits ? Command(SetLockTimeout, milliseconds) : null,
            isFinite ? Command(SetStatementTimeout, Shorter(statementTimeout, milliseconds)) : null,
            Command(waits ? LockTables : TryToLockTables, tables, _mode),
            isFinite ? Command(SetStatementTimeout, statementTimeout) : null,
            waits ? Command(SetLockTimeout, lockTimeout) : null,
            ReleaseSavepoint) with
        { Wait = waits ? timeout : null };
        var answer = await conversation.Ask(statement, async, waits ? cancellationToken : CancellationToken.None).ConfigureAwait(false);
        return (answer, hasSavepoint || answer.Error is null || TableDriver.HasBegun(answer.Error));

        static LockStatement Statement(params IEnumerable<LockCommand?> commands) => new([.. commands.OfType<LockCommand>()]);

        static LockCommand Command(LockSql sql, params IEnumerable<string> parts) =>
            new(sql, [.. parts.Select(part => new LockParameter(TableDriver.Verbatim, part))]);
    }

    // A limit of the caller's that is shorter stays. The server shows times in the largest unit that leaves them whole:
    // https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
    private static string Shorter(string shown, string milliseconds)
    {
        var digits = shown.AsSpan().TrimEnd("adhimns");
        var own = long.Parse(digits, CultureInfo.InvariantCulture) * shown[digits.Length..] switch
        {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "min" => 60_000,
            "s" => 1_000,
            _ => 1,
        };
        var ours = Math.Min(long.Parse(milliseconds, CultureInfo.InvariantCulture) + StatementTimeoutDelay, int.MaxValue);
        return own > 0 && own < ours ? shown : ours.ToString(CultureInfo.InvariantCulture);
    }

    private LockCommand Order() => new(
        OrderOfTables,
        new LockParameter(DbType.String, PgArray.Text(_tables.Select(table => table.Quoted))),
        new LockParameter(DbType.String, PgArray.Text(_tables.Select(table => table.Only ? "t" : "f"))),

        // What LOCK TABLE asks for on every version: https://www.postgresql.org/docs/current/sql-lock.html
        new LockParameter(DbType.String, _mode == AccessShare ? "SELECT" : "UPDATE, DELETE, TRUNCATE"));
}
