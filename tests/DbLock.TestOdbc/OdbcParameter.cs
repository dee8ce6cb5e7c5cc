using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.InteropServices;

namespace System.Data.Odbc;

/// <summary>An input parameter: the n-th of its collection is the n-th <c>?</c> of the text, whatever its name.</summary>
public sealed class OdbcParameter : DbParameter
{
    private SqlType? _type;
    private ParameterDirection _direction = ParameterDirection.Input;

    public OdbcParameter()
    {
    }

    public OdbcParameter(string? name, object? value) => (ParameterName, Value) = (name, value);

    public OdbcParameter(string? name, OdbcType type) => (ParameterName, OdbcType) = (name, type);

    public OdbcParameter(string? name, OdbcType type, int size)
        : this(name, type) =>
        Size = size;

    public override DbType DbType
    {
        get => (_type ?? SqlType.Of(Value)).DbType;
        set => _type = SqlType.Of(value);
    }

    public OdbcType OdbcType
    {
        get => (_type ?? SqlType.Of(Value)).OdbcType;
        set => _type = SqlType.Of(value);
    }

    public override ParameterDirection Direction
    {
        get => _direction;
        set => _direction = value == ParameterDirection.Input
            ? value
            : throw new NotSupportedException("Only input parameters are supported.");
    }

    public override bool IsNullable { get; set; }

    [AllowNull]
    public override string ParameterName { get => field ?? ""; set; }

    /// <summary>Longer strings and byte arrays are cut to this many characters or bytes; 0 for no limit.</summary>
    public override int Size { get; set; }

    public override byte Precision { get; set; }

    public override byte Scale { get; set; }

    [AllowNull]
    public override string SourceColumn { get => field ?? ""; set; }

    public override bool SourceColumnNullMapping { get; set; }

    public override DataRowVersion SourceVersion { get; set; } = DataRowVersion.Current;

    public override object? Value { get; set; }

    public override void ResetDbType() => _type = null;

    public override string ToString() => ParameterName;

    internal Binding Bind()
    {
        var type = _type ?? SqlType.Of(Value);
        if (Value is null or DBNull)
        {
            return new Binding(type, [], Value is null ? Native.DefaultParameter : Native.NullData, ColumnSize(type, 0), Scale);
        }

        var value = Value is char[] characters ? new string(characters)
            : Value.GetType() == type.Type ? Value
            : Convert.ChangeType(Value, type.Type, CultureInfo.InvariantCulture);
        if (Size > 0 && value is string text && text.Length > Size)
        {
            value = text[..Size];
        }
        else if (Size > 0 && value is byte[] bytes && bytes.Length > Size)
        {
            value = bytes[..Size];
        }

        var data = Bytes(type, value);
        var length = value is string ? data.Length / sizeof(char) : data.Length;

        // SQL Server's limits of the short types.
        type = type.OdbcType == OdbcType.NVarChar && length > 4000 ? SqlType.NText
            : type.OdbcType == OdbcType.VarBinary && length > 8000 ? SqlType.Image
            : type;
        var scale = value is decimal number ? number.Scale : Scale;
        return new Binding(type, data, data.Length, ColumnSize(type, length), scale);
    }

    // Never 0, which drivers refuse.
    private int ColumnSize(SqlType type, int length) => type.ColumnSize > 0 ? type.ColumnSize : Math.Max(2, Size > 0 ? Size : length);

    private static byte[] Bytes(SqlType type, object value) => value switch
    {
        string text => MemoryMarshal.AsBytes(text.AsSpan()).ToArray(),
        byte[] bytes => bytes,
        decimal number => MemoryMarshal.AsBytes(number.ToString(CultureInfo.InvariantCulture).AsSpan()).ToArray(),
        bool bit => [bit ? (byte)1 : (byte)0],
        byte number => [number],
        short number => BitConverter.GetBytes(number),
        int number => BitConverter.GetBytes(number),
        long number => BitConverter.GetBytes(number),
        float number => BitConverter.GetBytes(number),
        double number => BitConverter.GetBytes(number),
        Guid guid => guid.ToByteArray(),
        DateTime time => type.CType == SqlType.Date ? Timestamp.Bytes(time)[..6] : Timestamp.Bytes(time),
        TimeSpan time => Timestamp.Bytes(DateTime.MinValue + time)[6..12],
        _ => throw new ArgumentException($"No mapping exists from {value.GetType()} to a C type.", nameof(value)),
    };

    internal sealed record Binding(SqlType Type, byte[] Data, nint Indicator, int ColumnSize, byte Scale);
}
