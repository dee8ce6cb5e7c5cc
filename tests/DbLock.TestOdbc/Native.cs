using System.Runtime.InteropServices;

namespace System.Data.Odbc;

/// <summary>The ODBC C API of unixODBC: SQLWCHAR is UTF-16, SQLLEN is 64 bits.</summary>
internal static unsafe partial class Native
{
    internal const short Success = 0, SuccessWithInfo = 1, NoData = 100;
    internal const short Environment = 1, Connection = 2, Statement = 3;
    internal const short Commit = 0, Rollback = 1;
    internal const short NullTerminated = -3;
    internal const nint NullData = -1, DefaultParameter = -5;
    internal const ushort CloseCursor = 0, ResetParameters = 3;

    internal const int QueryTimeout = 0, AutoCommit = 102, LoginTimeout = 103, Isolation = 108, CurrentCatalog = 109, OdbcVersion = 200,
        ConnectionDead = 1209, SqlServerIsolation = 1227;

    internal const ushort DriverName = 6, ServerName = 13, DbmsName = 17, DbmsVersion = 18;
    internal const ushort ConciseType = 2, Unsigned = 8, TypeName = 14, ColumnName = 1011;
    private const int IsUnsignedInteger = -5;
    private const string Library = "libodbc.so.2";

    internal static bool Ok(short code) => code is Success or SuccessWithInfo;

    internal static short SetStatement(OdbcHandle statement, int attribute, nint value) =>
        SQLSetStmtAttrW(statement, attribute, value, IsUnsignedInteger);

    internal static short SetConnection(OdbcHandle connection, int attribute, nint value) =>
        SQLSetConnectAttrW(connection, attribute, value, IsUnsignedInteger);

    [LibraryImport(Library)]
    internal static partial short SQLAllocHandle(short kind, nint parent, out nint handle);

    [LibraryImport(Library)]
    internal static partial short SQLFreeHandle(short kind, nint handle);

    [LibraryImport(Library)]
    internal static partial short SQLSetEnvAttr(OdbcHandle environment, int attribute, nint value, int length);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf16)]
    internal static partial short SQLDriverConnectW(
        OdbcHandle connection, nint window, string text, short length, nint completed, short room, nint completedLength, ushort prompt);

    [LibraryImport(Library)]
    internal static partial short SQLDisconnect(nint connection);

    [LibraryImport(Library)]
    internal static partial short SQLEndTran(short kind, nint handle, short completion);

    [LibraryImport(Library)]
    internal static partial short SQLSetConnectAttrW(OdbcHandle connection, int attribute, nint value, int length);

    [LibraryImport(Library)]
    internal static partial short SQLSetConnectAttrW(nint connection, int attribute, nint value, int length);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf16)]
    internal static partial short SQLSetConnectAttrW(OdbcHandle connection, int attribute, string value, int bytes);

    [LibraryImport(Library)]
    internal static partial short SQLGetConnectAttrW(OdbcHandle connection, int attribute, void* value, int room, out int bytes);

    [LibraryImport(Library)]
    internal static partial short SQLGetInfoW(OdbcHandle connection, ushort kind, void* value, short room, out short bytes);

    [LibraryImport(Library)]
    internal static partial short SQLGetDiagRecW(
        short kind, OdbcHandle handle, short record, char* state, out int native, char* message, short room, out short length);

    [LibraryImport(Library)]
    internal static partial short SQLSetStmtAttrW(OdbcHandle statement, int attribute, nint value, int length);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf16)]
    internal static partial short SQLPrepareW(OdbcHandle statement, string text, int length);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf16)]
    internal static partial short SQLExecDirectW(OdbcHandle statement, string text, int length);

    [LibraryImport(Library)]
    internal static partial short SQLExecute(OdbcHandle statement);

    [LibraryImport(Library)]
    internal static partial short SQLCancel(OdbcHandle statement);

    [LibraryImport(Library)]
    internal static partial short SQLFreeStmt(OdbcHandle statement, ushort option);

    [LibraryImport(Library)]
    internal static partial short SQLBindParameter(
        OdbcHandle statement, ushort number, short direction, short cType, short sqlType, nuint columnSize, short digits,
        void* value, nint room, nint* indicator);

    [LibraryImport(Library)]
    internal static partial short SQLNumResultCols(OdbcHandle statement, out short columns);

    [LibraryImport(Library)]
    internal static partial short SQLRowCount(OdbcHandle statement, out nint rows);

    [LibraryImport(Library)]
    internal static partial short SQLColAttributeW(
        OdbcHandle statement, ushort column, ushort field, void* text, short room, out short bytes, out nint number);

    [LibraryImport(Library)]
    internal static partial short SQLFetch(OdbcHandle statement);

    [LibraryImport(Library)]
    internal static partial short SQLGetData(OdbcHandle statement, ushort column, short cType, void* value, nint room, out nint indicator);

    [LibraryImport(Library)]
    internal static partial short SQLMoreResults(OdbcHandle statement);
}
