using System.Runtime.InteropServices;

namespace System.Data.Odbc;

/// <summary>SQL_TIMESTAMP_STRUCT; its first six bytes are SQL_DATE_STRUCT, the next six SQL_TIME_STRUCT.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Timestamp(
    short Year, ushort Month, ushort Day, ushort Hour, ushort Minute, ushort Second, uint Nanoseconds)
{
    internal static byte[] Bytes(DateTime time)
    {
        var fraction = (uint)(time.Ticks % TimeSpan.TicksPerSecond * TimeSpan.NanosecondsPerTick);
        var timestamp = new Timestamp(
            (short)time.Year, (ushort)time.Month, (ushort)time.Day, (ushort)time.Hour, (ushort)time.Minute, (ushort)time.Second, fraction);
        return MemoryMarshal.AsBytes(new Span<Timestamp>(ref timestamp)).ToArray();
    }

    internal DateTime ToDateTime() =>
        new DateTime(Year, Month, Day, Hour, Minute, Second).AddTicks(Nanoseconds / TimeSpan.NanosecondsPerTick);
}
