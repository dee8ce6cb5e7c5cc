using System.Collections;
using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;

namespace DbLock;

/// <summary>Reads the codes of an unknown provider's exception from its properties, whose names are the same in all that we know.</summary>
internal static class DbErrorReader
{
    public static DbError Read(Exception exception)
    {
        var error = exception as DbException ?? exception.InnerException as DbException;
        if (error is null)
        {
            // With these exceptions providers refuse what they do not send: while a reader is open, without the connection's transaction,
            // or what they cannot do. A cancel that came before anything was sent has no error of the server's inside. An object that is
            // disposed belongs to a connection that is broken, and tells nothing of what was sent.
            var isRefused = exception is InvalidOperationException and not ObjectDisposedException or NotSupportedException
                or OperationCanceledException { InnerException: null };
            return new DbError(null, NotSent: isRefused);
        }

        // Npgsql names the command that is in the way of the one that was not sent.
        if (Property(error, "CommandInProgress") is not null)
        {
            return new DbError(null, NotSent: true);
        }

        // ODBC has the codes in OdbcException.Errors[0]; the others have them in DbException.SqlState and their own Number.
        var first = (Property(error, "Errors") as IEnumerable)?.Cast<object>().FirstOrDefault();
        var sqlState = error.SqlState ?? (first is null ? null : Property(first, "SQLState") as string);
        var number = Property(error, "Number") ?? Property(error, "SqliteErrorCode")
            ?? (first is null ? null : Property(first, "NativeError"));

        // SqlClient tells that the connection has ended by a severity, which it calls Class, of 20 and more, mostly with the number 0:
        // https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-error-severities
        if (sqlState is null && Property(error, "Class") is byte and >= 20)
        {
            sqlState = "08S01";
        }

        var code = number is null ? 0 : Convert.ToInt32(number, CultureInfo.InvariantCulture);

        // MySqlConnector and MySql.Data have no code for it, but the network's exception inside (seen with 2.6.2 and 26.10).
        if (sqlState is null && code == 0 && IsOfNetwork(error.InnerException))
        {
            sqlState = "08S01";
        }

        // So two providers say that an open reader is in the way: ODBC with "invalid cursor state", MySql.Data with an exception that has
        // neither a number nor the network's exception inside (measured with 26.10).
        var isNotSent = sqlState == "24000"
            || (code == 0 && error.InnerException is null && error.GetType().Namespace == "MySql.Data.MySqlClient");
        return new DbError(sqlState, code, isNotSent);
    }

    private static bool IsOfNetwork(Exception? error) =>
        error is IOException or SocketException || (error is not null && IsOfNetwork(error.InnerException));

    public static object? Property(object from, string name) => from.GetType().GetProperty(name)?.GetValue(from);
}
