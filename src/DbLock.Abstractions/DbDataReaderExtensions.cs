using System.Data.Common;

namespace DbLock;

internal static class DbDataReaderExtensions
{
    /// <summary>Disposes a reader, which may have to read on until the server has said all.</summary>
    public static async ValueTask Dispose(this DbDataReader reader, bool async)
    {
        if (async)
        {
            await reader.DisposeAsync().ConfigureAwait(false);
        }
        else
        {
            reader.Dispose();
        }
    }
}
