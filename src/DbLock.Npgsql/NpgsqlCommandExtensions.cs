using Npgsql;

namespace DbLock;

internal static class NpgsqlCommandExtensions
{
    /// <summary>Runs a command and reads each row of its answer.</summary>
    public static async ValueTask<List<T>> ReadRows<T>(
        this NpgsqlCommand command, Func<NpgsqlDataReader, T> read, bool async, CancellationToken cancellationToken)
    {
        var rows = new List<T>();
        var reader = async ? await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false) : command.ExecuteReader();
        try
        {
            while (async ? await reader.ReadAsync(cancellationToken).ConfigureAwait(false) : reader.Read())
            {
                rows.Add(read(reader));
            }
        }
        finally
        {
            await reader.Dispose(async).ConfigureAwait(false);
        }

        return rows;
    }
}
