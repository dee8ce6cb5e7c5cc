namespace DbLock.Drivers;

/// <summary>The dialects that DbLock brings.</summary>
public static class Dialects
{
    private static readonly PostgreSqlDialect PostgreSqlInstance = new();
    private static readonly SqlServerDialect SqlServerInstance = new();
    private static readonly MySqlDialect MariaDbInstance = new(isMariaDb: true);
    private static readonly MySqlDialect MySqlInstance = new(isMariaDb: false);
    private static readonly SqliteDialect SqliteInstance = new();

    /// <summary>Gets them all. MariaDB comes before MySQL, because it also calls itself MySQL.</summary>
    internal static LockDialect[] All { get; } = [PostgreSqlInstance, SqlServerInstance, MariaDbInstance, MySqlInstance, SqliteInstance];

    extension(LockDialect)
    {
        /// <summary>Gets the dialect of PostgreSQL: advisory locks.</summary>
        public static LockDialect PostgreSql => PostgreSqlInstance;

        /// <summary>Gets the dialect of SQL Server: application locks (<c>sp_getapplock</c>).</summary>
        public static LockDialect SqlServer => SqlServerInstance;

        /// <summary>
        /// Gets the dialect of MariaDB: user locks (<c>GET_LOCK</c>), whose names keep their case and whose timeouts have fractions.
        /// </summary>
        public static LockDialect MariaDb => MariaDbInstance;

        /// <summary>
        /// Gets the dialect of MySQL: user locks (<c>GET_LOCK</c>), whose names ignore case and whose timeouts are whole seconds.
        /// </summary>
        public static LockDialect MySql => MySqlInstance;

        /// <summary>Gets the dialect of SQLite: leases alone (<see cref="LockScope.Lease"/>).</summary>
        public static LockDialect Sqlite => SqliteInstance;
    }
}
