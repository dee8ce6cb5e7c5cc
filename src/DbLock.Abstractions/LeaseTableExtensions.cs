using System.Data.Common;
using System.Globalization;

namespace DbLock;

/// <summary>Creates tables of leases, and says who holds what is in them.</summary>
public static class LeaseTableExtensions
{
    /// <summary>Returns the DDL that creates the table if there is none.</summary>
    /// <param name="table">The table.</param>
    /// <param name="dialect">The SQL dialect of the server.</param>
    /// <exception cref="NotSupportedException">The dialect has no leases.</exception>
    public static string Ddl(this LeaseTable table, LockDialect dialect)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(dialect);
        return Leasing.Of(dialect).Create(table);
    }

    /// <summary>Creates the table if there is none. The user must have the right to; the programs that lock need it not.</summary>
    /// <param name="table">The table.</param>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="NotSupportedException">The server's dialect has no leases.</exception>
    /// <exception cref="DbException">The server has refused.</exception>
    public static async Task CreateAsync(
        this LeaseTable table, DbDataSource dataSource, LockInterface? lockInterface = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(dataSource);
        var connection = await OwnConnection.Open(dataSource, async: true, cancellationToken).ConfigureAwait(false);
        await using var closing = connection.ConfigureAwait(false);
        await table.CreateAsync(connection, lockInterface, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Creates the table if there is none. The user must have the right to; the programs that lock need it not.</summary>
    /// <param name="table">The table.</param>
    /// <param name="connection">An open connection, of any provider.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="NotSupportedException">The server's dialect has no leases.</exception>
    /// <exception cref="DbException">The server has refused.</exception>
    public static async Task CreateAsync(
        this LeaseTable table, DbConnection connection, LockInterface? lockInterface = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(connection);
        lockInterface ??= LockInterface.For(connection);
        var dialect = Session.Of(connection).Dialect(connection, lockInterface, null);
        var create = new LockStatement(new LockCommand(new LockSql(table.Ddl(dialect))));
        try
        {
            await lockInterface.Driver.Execute(connection, null, create, async: true, cancellationToken).ConfigureAwait(false);
        }
        catch (DbException)
        {
            // Two programs that create a table at the same time are in each other's way, also where they say "if not exists".
            await lockInterface.Driver.Execute(connection, null, create, async: true, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Says who has the leases of a table: the application, host and process of each, since when and until when, its token and its note. A
    /// lease that was released, and is not given again yet, is among them (<see cref="LockLease.IsReleased"/>).
    /// </summary>
    /// <param name="table">The table.</param>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="keys">The keys that are asked for; null asks for all.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>What is not free at the moment when the server was asked, in the order of the names.</returns>
    /// <exception cref="NotSupportedException">The server's dialect has no leases.</exception>
    /// <exception cref="LockException">There is no such table, or the user may not read it.</exception>
    /// <exception cref="DbException">The server has refused.</exception>
    public static async Task<IReadOnlyList<LockLease>> GetLeasesAsync(
        this LeaseTable table, DbDataSource dataSource, IEnumerable<LockKey>? keys = null, LockInterface? lockInterface = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(dataSource);
        var connection = await OwnConnection.Open(dataSource, async: true, cancellationToken).ConfigureAwait(false);
        await using var closing = connection.ConfigureAwait(false);
        return await table.GetLeasesAsync(connection, keys, lockInterface, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Says who has the leases of a table, over a connection of the caller's.</summary>
    /// <returns>What is not free at the moment when the server was asked, in the order of the names.</returns>
    /// <exception cref="NotSupportedException">The server's dialect has no leases.</exception>
    /// <exception cref="LockException">There is no such table, or the user may not read it.</exception>
    /// <exception cref="DbException">The server has refused.</exception>
    /// <param name="table">The table.</param>
    /// <param name="connection">An open connection, of any provider, outside a transaction.</param>
    /// <param name="keys">The keys that are asked for; null asks for all.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    public static async Task<IReadOnlyList<LockLease>> GetLeasesAsync(
        this LeaseTable table, DbConnection connection, IEnumerable<LockKey>? keys = null, LockInterface? lockInterface = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(connection);
        lockInterface ??= LockInterface.For(connection);
        var dialect = Session.Of(connection).Dialect(connection, lockInterface, null);
        var leases = Leasing.Of(dialect);
        LeaseRow[] rows = keys is null ? [] : [.. keys.SelectMany(key => key.Keys).Select(key => new LeaseRow(leases.Name(key), ""))];
        if (keys is not null && rows.Length == 0)
        {
            return [];
        }

        return LeaseHolders.ReadAll(await Ask(table, connection, lockInterface, dialect, leases.Look(table, rows), cancellationToken)
            .ConfigureAwait(false));
    }

    /// <summary>
    /// Deletes the rows of leases that ended a day ago or earlier. The tokens of their keys go on growing: a new row begins with the time,
    /// and a row whose token is ahead of that stays. The user needs the right to delete.
    /// </summary>
    /// <param name="table">The table.</param>
    /// <param name="dataSource">Where the connection comes from, of any provider.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>How many rows were deleted.</returns>
    /// <exception cref="NotSupportedException">The server's dialect has no leases.</exception>
    /// <exception cref="LockException">There is no such table, or the user may not delete from it.</exception>
    /// <exception cref="DbException">The server has refused.</exception>
    public static async Task<long> ClearAsync(
        this LeaseTable table, DbDataSource dataSource, LockInterface? lockInterface = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(dataSource);
        var connection = await OwnConnection.Open(dataSource, async: true, cancellationToken).ConfigureAwait(false);
        await using var closing = connection.ConfigureAwait(false);
        return await table.ClearAsync(connection, lockInterface, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Deletes the rows of leases that ended a day ago or earlier, over a connection of the caller's.</summary>
    /// <returns>How many rows were deleted.</returns>
    /// <exception cref="NotSupportedException">The server's dialect has no leases.</exception>
    /// <exception cref="LockException">There is no such table, or the user may not delete from it.</exception>
    /// <exception cref="DbException">The server has refused.</exception>
    /// <param name="table">The table.</param>
    /// <param name="connection">An open connection, of any provider, outside a transaction.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    public static async Task<long> ClearAsync(
        this LeaseTable table, DbConnection connection, LockInterface? lockInterface = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(connection);
        lockInterface ??= LockInterface.For(connection);
        var dialect = Session.Of(connection).Dialect(connection, lockInterface, null);
        var clear = Leasing.Of(dialect).Clear(table);
        var answer = await Ask(table, connection, lockInterface, dialect, clear, cancellationToken).ConfigureAwait(false);
        return Convert.ToInt64(answer, CultureInfo.InvariantCulture);
    }

    private static async Task<object?> Ask(
        LeaseTable table, DbConnection connection, LockInterface lockInterface, LockDialect dialect, LockStatement statement,
        CancellationToken cancellationToken)
    {
        var driver = lockInterface.Driver;
        try
        {
            return await driver.Execute(connection, null, statement, async: true, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (Leasing.Of(dialect).Read(driver.Read(e)) is LeaseTrouble.NoTable)
        {
            throw LeaseRefusals.NoTable(table, table.Ddl(dialect), e);
        }
        catch (Exception e) when (Leasing.Of(dialect).Read(driver.Read(e)) is LeaseTrouble.NoRight)
        {
            throw LeaseRefusals.NoRight(table, table.Ddl(dialect), e);
        }
    }
}
