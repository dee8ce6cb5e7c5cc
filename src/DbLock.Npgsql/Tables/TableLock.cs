using System.Data;
using Npgsql;
using static DbLock.RoundTrip;
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
/// <para><b>Cancellation.</b> A cancelled wait ends in <see cref="OperationCanceledException"/>, the lock is not held, and the transaction
/// is as before; should the cancel be lost on its way, Npgsql closes the connection after its Cancellation Timeout, and the transaction is
/// gone. A try is short and is not interrupted.</para>
/// <para><b>Threads.</b> A table lock, like its connection, is used by one call at a time.</para>
/// </remarks>
public sealed class TableLock
{
    // LOCK TABLE locks a table, then what inherits from it: breadth first, each generation by oid. So all of these are named here, in an
    // order that agrees with that: ancestors first, then by the oids on the way down. What the role may only lock as part of its ancestor
    // is left to that, and so is what joins the ancestor meanwhile: the tables that were asked for come once more at the end. What does not
    // exist comes first, so that it fails before it waits.
    private const string Order = """
        with recursive asked as (
          select pg_catalog.to_regclass(a.name)::pg_catalog.oid as oid, a.name, a.is_only
          from rows from (
            pg_catalog.unnest($1::pg_catalog.text::pg_catalog.text[]),
            pg_catalog.unnest($2::pg_catalog.text::boolean[])) as a (name, is_only)
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
            or (pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_table_privilege(p.oid, $3))
          order by p.root, p.generation, p.way)
        union all
        select distinct pg_catalog.format('%I.%I', n.nspname, c.relname)
          from asked as a join pg_catalog.pg_class as c on c.oid = a.oid join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
          where not a.is_only and a.oid in (select i.inhparent from pg_catalog.pg_inherits as i)
        """;

    private const string AccessShare = "access share";

    private static ILockDriver Driver => NpgsqlLockInterface.Instance.Driver;

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
    /// <exception cref="LockDeadlockException">The server ended the wait to break a deadlock.</exception>
    /// <exception cref="PostgresException">The server refused, for want of a table or a right (42P01, 42501).</exception>
    public bool Acquire(bool block = true) => Completed(Acquire(Timeout(block), async: false, CancellationToken.None));

    /// <summary>Acquires the lock, waiting no longer than a timeout for each table.</summary>
    /// <param name="timeout">From zero, which tries once, to about 24 days, rounded up to milliseconds;
    /// <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> waits for ever. The server counts it for each table anew.</param>
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

    /// <summary>Acquires the lock, waiting no longer than a timeout for each table.</summary>
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

        await LockTimeouts.Pay(_connection, async).ConfigureAwait(false);
        var savepoint = new NpgsqlBatchCommand("savepoint dblock_table");
        try
        {
            await Acquire(savepoint, timeout, milliseconds, async, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (Exception e)
        {
            // Going back to a savepoint that was not made would go back to the caller's own, should it have the same name.
            if (savepoint.StatementType != Npgsql.StatementType.Unknown && _connection.State == ConnectionState.Open)
            {
                await Undo(async).ConfigureAwait(false);
            }

            var codes = Driver.Read(e);
            switch (codes.SqlState)
            {
                case var _ when LockDialect.PostgreSql.IsSessionLimit(codes):
                    throw Refusals.SessionEndedByLimit($"a lock on {Names}", e);

                // Where the waits for many tables add up, the client may be the first to find the time over.
                case "55P03":
                case null when timeout > TimeSpan.Zero && e.InnerException is TimeoutException && _connection.State == ConnectionState.Open:
                    return false;
                case "25P01":
                    throw new InvalidOperationException(
                        $"{Names} cannot be locked outside a transaction, since the lock would be gone at once: begin a transaction on "
                            + "this connection, lock, and commit after the work.", e);
                case "40P01":
                    throw new LockDeadlockException(
                        $"The wait for {Names} was ended by the server to break a deadlock, and the lock is not acquired. The "
                            + "transaction still holds its other locks: "
                        + "roll it back, so that the others can go on, then try again.",
                        e);
                case "57014" or null when cancellationToken.IsCancellationRequested:
                    throw new OperationCanceledException(
                        $"The wait for {Names} was cancelled. The lock is not acquired.", e, cancellationToken);
                case "57014":
                    throw new LockNotAcquiredException(
                        $"The wait for {Names} was ended by the server before its time: its statement_timeout or an administrator's "
                            + "cancel. "
                        + "The lock is not acquired; wait with a timeout shorter than the limit, or raise the limit.",
                        e);
                default:
                    throw;
            }
        }
    }

    // SHOW, SET and LOCK take no snapshot, as a SELECT would: after the wait a REPEATABLE READ transaction sees what the last holder did.
    private async ValueTask Acquire(
        NpgsqlBatchCommand savepoint, TimeSpan timeout, string milliseconds, bool async, CancellationToken cancellationToken)
    {
        var waits = timeout != TimeSpan.Zero;
        List<NpgsqlBatchCommand> commands = [savepoint];
        if (waits)
        {
            commands.AddRange([new("show lock_timeout"), new($"set local lock_timeout = {milliseconds}")]);
        }

        if (_tables.Length > 1)
        {
            commands.Add(new(Order)
            {
                Parameters =
                {
                    new NpgsqlParameter<string> { TypedValue = PgArray.Text(_tables.Select(table => table.Quoted)) },
                    new NpgsqlParameter<string> { TypedValue = PgArray.Text(_tables.Select(table => table.Only ? "t" : "f")) },

                    // What LOCK TABLE asks for on every version: https://www.postgresql.org/docs/current/sql-lock.html
                    new NpgsqlParameter<string> { TypedValue = _mode == AccessShare ? "SELECT" : "UPDATE, DELETE, TRUNCATE" },
                },
            });
        }

        var (tables, before) = (Names, "");
        if (commands.Count > 1)
        {
            // Not cancelled: a cancel that hit the savepoint itself would cost the transaction.
            var rows = await Send(_connection, commands, async, cancellationToken: CancellationToken.None).ConfigureAwait(false);
            before = waits ? rows[0][0] : before;
            tables = _tables.Length > 1 ? string.Join(", ", rows.Skip(waits ? 1 : 0).Select(row => row[0])) : tables;
            commands = [];
        }

        commands.Add(new($"lock table {tables} in {_mode} mode{(waits ? "" : " nowait")}"));
        if (waits)
        {
            commands.Add(new($"set local lock_timeout = '{before}'"));
        }

        commands.Add(new("release savepoint dblock_table"));
        await Send(
            _connection, commands, async, waits
                ? timeout : null, cancellationToken: waits ? cancellationToken : default).ConfigureAwait(false);
    }

    // Leaves the transaction as it was before, the locks that were taken and lock_timeout too.
    private async ValueTask Undo(bool async)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                await Send(
                    _connection, [new("rollback to savepoint dblock_table"), new("release savepoint dblock_table")],
                        async).ConfigureAwait(false);
                return;
            }
            catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.QueryCanceled && attempt < Conversation.CancelAttempts)
            {
            }
        }
    }
}
