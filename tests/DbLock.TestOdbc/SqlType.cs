namespace System.Data.Odbc;

/// <summary>
/// A type as each side names it. <paramref name="CType"/> is the C type that values travel as; a <paramref name="ColumnSize"/> of 0
/// stands for the value's own.
/// </summary>
internal sealed record SqlType(OdbcType OdbcType, DbType DbType, Type Type, short Sql, short CType, int ColumnSize)
{
    internal const short WideChar = -8, Binary = -2, Bit = -7, Int64 = -25, Int32 = -16, Int16 = -15, Byte = -28, Single = 7, Double = 8,
        Guid = -11, Date = 91, Time = 92, DateTime = 93;

    internal static readonly SqlType NVarChar = new(OdbcType.NVarChar, DbType.String, typeof(string), -9, WideChar, 0);
    internal static readonly SqlType NText = new(OdbcType.NText, DbType.String, typeof(string), -10, WideChar, 0);
    internal static readonly SqlType Image = new(OdbcType.Image, DbType.Binary, typeof(byte[]), -4, Binary, 0);

    private static readonly SqlType TinyInt = new(OdbcType.TinyInt, DbType.Byte, typeof(byte), -6, Byte, 3);
    private static readonly SqlType SmallInt = new(OdbcType.SmallInt, DbType.Int16, typeof(short), 5, Int16, 5);
    private static readonly SqlType Int = new(OdbcType.Int, DbType.Int32, typeof(int), 4, Int32, 10);
    private static readonly SqlType BigInt = new(OdbcType.BigInt, DbType.Int64, typeof(long), -5, Int64, 20);

    // Decimals travel as text: SQL_NUMERIC_STRUCT needs descriptors, and drivers differ on it.
    private static readonly SqlType Numeric = new(OdbcType.Numeric, DbType.Decimal, typeof(decimal), 2, WideChar, 28);

    // Where a DbType, a Type or an SQL type occurs twice, the first row is its default.
    private static readonly SqlType[] All =
    [
        NVarChar,
        NText,
        new(OdbcType.NChar, DbType.StringFixedLength, typeof(string), -8, WideChar, 0),
        new(OdbcType.VarChar, DbType.AnsiString, typeof(string), 12, WideChar, 0),
        new(OdbcType.Text, DbType.AnsiString, typeof(string), -1, WideChar, 0),
        new(OdbcType.Char, DbType.AnsiStringFixedLength, typeof(string), 1, WideChar, 0),
        new(OdbcType.VarBinary, DbType.Binary, typeof(byte[]), -3, Binary, 0),
        new(OdbcType.Binary, DbType.Binary, typeof(byte[]), -2, Binary, 0),
        Image,
        new(OdbcType.Bit, DbType.Boolean, typeof(bool), -7, Bit, 1),
        TinyInt,
        SmallInt,
        Int,
        BigInt,
        new(OdbcType.Real, DbType.Single, typeof(float), 7, Single, 7),
        new(OdbcType.Double, DbType.Double, typeof(double), 8, Double, 15),
        new(OdbcType.Double, DbType.Double, typeof(double), 6, Double, 15),
        Numeric,
        new(OdbcType.Decimal, DbType.Decimal, typeof(decimal), 3, WideChar, 28),
        new(OdbcType.UniqueIdentifier, DbType.Guid, typeof(Guid), -11, Guid, 36),
        new(OdbcType.DateTime, DbType.DateTime, typeof(DateTime), 93, DateTime, 23),
        new(OdbcType.Date, DbType.Date, typeof(DateTime), 91, Date, 10),
        new(OdbcType.Time, DbType.Time, typeof(TimeSpan), 92, Time, 12),
    ];

    internal static SqlType Of(OdbcType type) =>
        Array.Find(All, known => known.OdbcType == type) ?? throw new ArgumentOutOfRangeException(nameof(type), type, null);

    internal static SqlType Of(DbType type) =>
        Array.Find(All, known => known.DbType == type)
        ?? throw new ArgumentException($"No mapping exists from DbType {type} to a known {nameof(OdbcType)}.", nameof(type));

    internal static SqlType Of(object? value) => value switch
    {
        null or DBNull or char or char[] => NVarChar,
        sbyte => SmallInt,
        ushort => Int,
        uint => BigInt,
        ulong => Numeric,
        Enum => Of(Convert.ChangeType(value, Enum.GetUnderlyingType(value.GetType()), null)),
        _ => Array.Find(All, known => known.Type == value.GetType())
            ?? throw new ArgumentException(
                $"No mapping exists from object type {value.GetType()} to a known managed provider native type.", nameof(value)),
    };

    internal static SqlType Of(Type type) => Array.Find(All, known => known.Type == type)!;

    internal static SqlType Of(short sql, bool unsigned)
    {
        var type = Array.Find(All, known => known.Sql == sql) ?? throw new ArgumentException($"Unknown SQL type - {sql}.", nameof(sql));
        return unsigned
            ? type == SmallInt ? Int : type == Int ? BigInt : type == BigInt ? Numeric : type
            : type == TinyInt ? SmallInt : type;
    }
}
