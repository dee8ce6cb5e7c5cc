using System.Buffers;
using System.Text;
using System.Text.Json;

namespace DbLock;

/// <summary>Many names as one parameter.</summary>
internal static class SqlServerNames
{
    /// <summary>Returns an array of JSON, which the server reads with OPENJSON (compatibility level 130, SQL Server 2016).</summary>
    public static string ToJson(IEnumerable<string> names)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            foreach (var name in names)
            {
                json.WriteStringValue(name);
            }

            json.WriteEndArray();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }
}
