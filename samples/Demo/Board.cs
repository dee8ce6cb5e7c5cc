using Npgsql;

namespace Demo;

/// <summary>The tables of the contest, in a schema of their own since the server may be one that is used otherwise.</summary>
internal sealed class Board(NpgsqlDataSource source, string schema, string connectionString) : IAsyncDisposable
{
    /// <summary>The connection string that finds the tables, as Npgsql takes it.</summary>
    public string ConnectionString => connectionString;

    public static async Task<Board> CreateAsync(string connectionString, CancellationToken cancellationToken)
    {
        var schema = $"dblock_demo_{Guid.NewGuid():N}";
        var ours = new NpgsqlConnectionStringBuilder(connectionString) { SearchPath = schema }.ConnectionString;
        var board = new Board(NpgsqlDataSource.Create(ours), schema, ours);
        await board.ExecuteAsync(
            $"""
            create schema {schema};
            create table {schema}.counter as select 0::bigint as value;
            create table {schema}.room as select 0 as inside, 0 as most;
            """,
            cancellationToken);
        return board;
    }

    public Task ResetAsync(CancellationToken cancellationToken) =>
        ExecuteAsync("update counter set value = 0; update room set inside = 0, most = 0", cancellationToken);

    public async Task<(long Counter, int Most)> ReadAsync(CancellationToken cancellationToken)
    {
        await using var read = source.CreateCommand("select value, most from counter, room");
        await using var reader = await read.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        return (reader.GetInt64(0), reader.GetInt32(1));
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            await ExecuteAsync($"drop schema {schema} cascade", CancellationToken.None);
        }
        catch (NpgsqlException)
        {
            // The server is gone; what ended the demo is to be told, not this.
        }

        await source.DisposeAsync();
    }

    private async Task ExecuteAsync(string sql, CancellationToken cancellationToken)
    {
        await using var command = source.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
