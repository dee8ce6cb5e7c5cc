namespace DbLock;

/// <summary>The dialects that this package brings, beside <see cref="LockDialect.PostgreSql"/>.</summary>
public static class Dialects
{
    private static readonly SqlServerDialect SqlServerInstance = new();
    private static readonly MySqlDialect MariaDbInstance = new(isMariaDb: true);
    private static readonly MySqlDialect MySqlInstance = new(isMariaDb: false);

    /// <summary>
    /// Gets the dialects of all servers that a driver of this package may meet. MariaDB comes first: it also calls itself MySQL.
    /// </summary>
    internal static LockDialect[] All { get; } = [LockDialect.PostgreSql, SqlServerInstance, MariaDbInstance, MySqlInstance];

    extension(LockDialect)
    {
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
    }
}
