using Npgsql;

namespace DbLock;

/// <summary>Commands that PostgreSQL alone has, sent as they are, in one round trip.</summary>
internal static class RoundTrip
{
    /// <summary>Sends commands and returns every row that comes back, of all of them one after another. All columns must be text.</summary>
    /// <param name="connection">The connection, open.</param>
    /// <param name="commands">The commands. When one fails, those after it do not run.</param>
    /// <param name="async">False: return a completed task.</param>
    /// <param name="wait">How long the server may wait, as <see cref="LockStatement.Wait"/>.</param>
    /// <param name="apart">Whether each command is a statement and, outside a transaction block, a transaction of its own.</param>
    /// <param name="cancellationToken">Cancels what the server does, and returns when it has answered.</param>
    public static async ValueTask<List<string?[]>> Send(
        NpgsqlConnection connection, IEnumerable<NpgsqlBatchCommand> commands, bool async, TimeSpan? wait = null, bool apart = false,
        CancellationToken cancellationToken = default)
    {
        var rows = new List<string?[]>();
        var batch = new NpgsqlBatch(connection) { EnableErrorBarriers = apart };
        await using (batch.ConfigureAwait(false))
        {
            foreach (var command in commands)
            {
                batch.BatchCommands.Add(command);
            }

            batch.Timeout = new LockStatement { Wait = wait }.CommandTimeout ?? batch.Timeout;
            var reader = async ? await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false) : batch.ExecuteReader();
            try
            {
                do
                {
                    while (async ? await reader.ReadAsync(cancellationToken).ConfigureAwait(false) : reader.Read())
                    {
                        var columns = Enumerable.Range(0, reader.FieldCount);
                        rows.Add([.. columns.Select(column => reader.IsDBNull(column) ? null : reader.GetString(column))]);
                    }
                }
                while (async ? await reader.NextResultAsync(cancellationToken).ConfigureAwait(false) : reader.NextResult());
            }
            finally
            {
                await reader.Dispose(async).ConfigureAwait(false);
            }
        }

        return rows;
    }
}
