using System.Collections;
using System.Data.Common;
using System.Globalization;
using System.Runtime.InteropServices;

namespace System.Data.Odbc;

public sealed unsafe class OdbcDataReader : DbDataReader
{
    private readonly OdbcConnection _connection;
    private readonly OdbcStatementHandle _statement;
    private readonly CommandBehavior _behavior;
    private Column[]? _columns;
    private object?[] _row = [];
    private bool _onRow;
    private bool? _hasRows;
    private bool _readAhead;
    private bool _noMoreRows;
    private bool _noMoreResults;
    private bool _closed;
    private int _recordsAffected = -1;

    internal OdbcDataReader(OdbcConnection connection, OdbcStatementHandle statement, CommandBehavior behavior)
    {
        _connection = connection;
        _statement = statement;
        _behavior = behavior.HasFlag(CommandBehavior.SingleRow) ? behavior | CommandBehavior.SingleResult : behavior;
    }

    public override int Depth => 0;

    public override int FieldCount
    {
        get
        {
            RequireOpen(nameof(FieldCount));
            return _noMoreResults ? 0 : (_columns ?? throw _connection.Failure(_statement)).Length;
        }
    }

    public override bool HasRows
    {
        get
        {
            RequireOpen(nameof(HasRows));
            if (_hasRows is null)
            {
                Read();
                _readAhead = true;
            }

            return _hasRows == true;
        }
    }

    public override bool IsClosed => _closed;

    public override int RecordsAffected => _recordsAffected;

    public override object this[int ordinal] => GetValue(ordinal);

    public override object this[string name] => GetValue(GetOrdinal(name));

    public override bool Read()
    {
        RequireOpen(nameof(Read));
        if (_readAhead)
        {
            _readAhead = false;
            return _onRow;
        }

        if (_statement.Canceling)
        {
            return _onRow = false;
        }

        if (_noMoreRows || _noMoreResults || _columns is not { Length: > 0 } columns)
        {
            return false;
        }

        var code = Native.SQLFetch(_statement);
        if (code != Native.NoData)
        {
            _connection.Check(_statement, code);
        }

        _onRow = code != Native.NoData;
        _hasRows = _hasRows == true || _onRow;
        _row = new object?[columns.Length];
        _noMoreRows = _behavior.HasFlag(CommandBehavior.SingleRow);
        return _onRow;
    }

    public override bool NextResult() => NextResult(errors: true, all: false);

    public override void Close() => Close(disposing: false);

    public override bool IsDBNull(int ordinal) => GetValue(ordinal) is DBNull;

    public override object GetValue(int ordinal) => Get(ordinal, GetColumn(ordinal).Type);

    public override int GetValues(object[] values)
    {
        var count = Math.Min(values.Length, FieldCount);
        for (var i = 0; i < count; i++)
        {
            values[i] = GetValue(i);
        }

        return count;
    }

    public override bool GetBoolean(int ordinal) => Get<bool>(ordinal);

    public override byte GetByte(int ordinal) => Get<byte>(ordinal);

    public override char GetChar(int ordinal) => throw new NotSupportedException();

    public override DateTime GetDateTime(int ordinal) => Get<DateTime>(ordinal);

    public override decimal GetDecimal(int ordinal) => Get<decimal>(ordinal);

    public override double GetDouble(int ordinal) => Get<double>(ordinal);

    public override float GetFloat(int ordinal) => Get<float>(ordinal);

    public override Guid GetGuid(int ordinal) => Get<Guid>(ordinal);

    public override short GetInt16(int ordinal) => Get<short>(ordinal);

    public override int GetInt32(int ordinal) => Get<int>(ordinal);

    public override long GetInt64(int ordinal) => Get<long>(ordinal);

    public override string GetString(int ordinal) => Get<string>(ordinal);

    public override long GetBytes(int ordinal, long dataOffset, byte[]? buffer, int bufferOffset, int length) =>
        Copy(Get<byte[]>(ordinal), dataOffset, buffer, bufferOffset, length);

    public override long GetChars(int ordinal, long dataOffset, char[]? buffer, int bufferOffset, int length) =>
        Copy(Get<string>(ordinal).ToCharArray(), dataOffset, buffer, bufferOffset, length);

    public override string GetDataTypeName(int ordinal)
    {
        _ = GetColumn(ordinal);
        return ReadText(ordinal, Native.TypeName);
    }

    public override Type GetFieldType(int ordinal) => GetColumn(ordinal).Type.Type;

    public override string GetName(int ordinal) => GetColumn(ordinal).Name;

    public override int GetOrdinal(string name)
    {
        var columns = _columns ?? throw NoData();
        var index = Array.FindIndex(columns, column => column.Name == name);
        index = index >= 0 ? index : Array.FindIndex(columns, column => column.Name.Equals(name, StringComparison.OrdinalIgnoreCase));
        return index >= 0 ? index : throw new IndexOutOfRangeException(name);
    }

    public override IEnumerator GetEnumerator() => new DbEnumerator(this, _behavior.HasFlag(CommandBehavior.CloseConnection));

    /// <summary>Stops at the first result if it has columns, else at the next that has.</summary>
    internal void FirstResult()
    {
        CountRows();
        if (!DescribeColumns() && !_statement.Canceling)
        {
            NextResult();
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Close(disposing: true);
        }

        base.Dispose(disposing);
    }

    private void Close(bool disposing)
    {
        if (_closed)
        {
            return;
        }

        if (!_statement.Canceling && !_statement.IsClosed)
        {
            // Some batches run on only as their results are asked for, and report their errors only then.
            NextResult(errors: !disposing, all: !disposing);
            _ = Native.SQLFreeStmt(_statement, Native.CloseCursor);
        }

        _closed = true;
        if (_behavior.HasFlag(CommandBehavior.CloseConnection))
        {
            _connection.Close();
        }
    }

    private bool NextResult(bool errors, bool all)
    {
        RequireOpen(nameof(NextResult));
        if (_statement.Canceling || _noMoreResults)
        {
            return false;
        }

        _onRow = _readAhead = false;
        _hasRows = null;
        var single = _behavior.HasFlag(CommandBehavior.SingleResult);
        OdbcErrorCollection? failures = null;
        bool more, found = false;
        short code;
        do
        {
            _columns = null;
            code = Native.SQLMoreResults(_statement);
            more = Native.Ok(code);
            if (code == Native.SuccessWithInfo)
            {
                _connection.Note(_statement);
            }
            else if (errors && !more && code != Native.NoData)
            {
                failures ??= new OdbcErrorCollection();
                _statement.ReadDiagnostics(failures);
            }

            if (errors && more)
            {
                CountRows();
                found = !single && DescribeColumns();
            }
        }
        while ((more && (single || !found)) || (all && code != Native.NoData && failures is null or { Count: > 0 and < 2000 }));

        _noMoreResults = code == Native.NoData;
        return failures is null ? more : throw _connection.Failure(failures);
    }

    private void CountRows()
    {
        if (Native.Ok(Native.SQLRowCount(_statement, out var rows)) && rows >= 0)
        {
            _recordsAffected = Math.Max(0, _recordsAffected) + (int)rows;
        }
    }

    private bool DescribeColumns()
    {
        if (_statement.Canceling || Native.SQLNumResultCols(_statement, out var count) != Native.Success)
        {
            return false;
        }

        _columns = new Column[count];
        for (var i = 0; i < count; i++)
        {
            var type = SqlType.Of((short)ReadNumber(i, Native.ConciseType), ReadNumber(i, Native.Unsigned) != 0);
            _columns[i] = new Column(ReadText(i, Native.ColumnName), type);
        }

        return count > 0;
    }

    private nint ReadNumber(int ordinal, ushort field)
    {
        _connection.Check(_statement, Native.SQLColAttributeW(_statement, (ushort)(ordinal + 1), field, null, 0, out _, out var number));
        return number;
    }

    private string ReadText(int ordinal, ushort field)
    {
        var text = stackalloc char[256];
        var code = Native.SQLColAttributeW(
            _statement, (ushort)(ordinal + 1), field, text, 256 * sizeof(char), out var bytes, out _);
        _connection.Check(_statement, code);
        return new string(text, 0, Math.Min(bytes / sizeof(char), 255));
    }

    // As in System.Data.Odbc the driver converts to the type that is asked for first, and the value then stays of that type.
    private T Get<T>(int ordinal) => (T)Get(ordinal, SqlType.Of(typeof(T)));

    private object Get(int ordinal, SqlType type)
    {
        RequireOpen(nameof(GetValue));
        if (!_onRow || (uint)ordinal >= (uint)_row.Length)
        {
            throw NoData();
        }

        return _row[ordinal] ??= Fetch(ordinal, type);
    }

    private object Fetch(int ordinal, SqlType type)
    {
        if (_statement.Canceling)
        {
            throw NoData();
        }

        if (type.CType is SqlType.WideChar or SqlType.Binary)
        {
            return FetchLong(ordinal, type);
        }

        var data = stackalloc byte[16];
        _connection.Check(_statement, Native.SQLGetData(_statement, (ushort)(ordinal + 1), type.CType, data, 16, out var indicator));
        return indicator == Native.NullData ? DBNull.Value : type.CType switch
        {
            SqlType.Bit => *data != 0,
            SqlType.Byte => *data,
            SqlType.Int16 => *(short*)data,
            SqlType.Int32 => *(int*)data,
            SqlType.Int64 => *(long*)data,
            SqlType.Single => *(float*)data,
            SqlType.Double => *(double*)data,
            SqlType.Guid => *(Guid*)data,
            SqlType.Date => (*(Timestamp*)data with { Hour = 0, Minute = 0, Second = 0, Nanoseconds = 0 }).ToDateTime(),
            SqlType.Time => new TimeSpan(((ushort*)data)[0], ((ushort*)data)[1], ((ushort*)data)[2]),
            _ => ((Timestamp*)data)->ToDateTime(),
        };
    }

    // Text and bytes come in pieces: a full buffer means that more may follow. Each piece of text ends in a null character.
    private object FetchLong(int ordinal, SqlType type)
    {
        const int Room = 4096;
        var terminator = type.CType == SqlType.WideChar ? sizeof(char) : 0;
        var buffer = stackalloc byte[Room];
        using var whole = new MemoryStream();
        while (true)
        {
            var code = Native.SQLGetData(_statement, (ushort)(ordinal + 1), type.CType, buffer, Room, out var indicator);
            if (code == Native.NoData)
            {
                break;
            }

            if (!Native.Ok(code))
            {
                throw _connection.Failure(_statement);
            }

            if (indicator == Native.NullData)
            {
                return DBNull.Value;
            }

            var complete = indicator >= 0 && indicator <= Room - terminator;
            whole.Write(new ReadOnlySpan<byte>(buffer, complete ? (int)indicator : Room - terminator));
            if (complete)
            {
                break;
            }
        }

        var bytes = new ReadOnlySpan<byte>(whole.GetBuffer(), 0, (int)whole.Length);
        if (type.CType == SqlType.Binary)
        {
            return bytes.ToArray();
        }

        var text = new string(MemoryMarshal.Cast<byte, char>(bytes));
        return type.Type == typeof(decimal) ? decimal.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture) : text;
    }

    private Column GetColumn(int ordinal) => (_columns ?? throw NoData())[ordinal];

    private void RequireOpen(string method)
    {
        if (_closed)
        {
            throw new InvalidOperationException($"Invalid attempt to call {method} when reader is closed.");
        }
    }

    private static InvalidOperationException NoData() => new("No data exists for the row/column.");

    private static long Copy<T>(T[] whole, long offset, T[]? buffer, int bufferOffset, int length)
    {
        if (buffer is null)
        {
            return whole.Length;
        }

        var count = Math.Max(0, Math.Min(Math.Min(length, whole.Length - offset), buffer.Length - bufferOffset));
        Array.Copy(whole, offset, buffer, bufferOffset, count);
        return count;
    }

    private sealed record Column(string Name, SqlType Type);
}
