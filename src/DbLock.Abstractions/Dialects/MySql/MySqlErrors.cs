namespace DbLock;

/// <summary>What MariaDB's and MySQL's numbers mean, whatever was asked.</summary>
internal static class MySqlErrors
{
    /// <summary>Says whether a number means that the connection is gone.</summary>
    /// <remarks>
    /// Shutdown, killed, gone away, lost (two codes), idle for too long; and, of MariaDB's client library, a read or a write that failed:
    /// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and
    /// https://mariadb.com/kb/en/mariadb-error-code-reference/.
    /// </remarks>
    public static bool IsLost(int number) => number is 1053 or 1927 or 2006 or 2013 or 2055 or 4031 or 5013 or 5014;
}
