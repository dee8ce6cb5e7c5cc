using Npgsql;

namespace Demo;

/// <summary>The counter, as a task increments it: over a connection that no lock uses, and with nothing that protects it.</summary>
internal sealed class Counter(NpgsqlConnection connection)
{
    // What a program would do between a read and a write.
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);

    public static async Task<Counter> OpenAsync()
    {
        var connection = Drivers.NewNpgsqlConnection();
        await connection.OpenAsync();
        return new(connection);
    }

    public async Task IncrementAsync()
    {
        // Who is inside is counted by single UPDATEs, which PostgreSQL makes atomic with or without the lock.
        await AskAsync("update room set inside = inside + 1, most = greatest(most, inside + 1)");

        var value = (long)(await AskAsync("select value from counter"))!;
        await Task.Delay(Pause);
        await AskAsync($"update counter set value = {value + 1}");

        await AskAsync("update room set inside = inside - 1");
    }

    private async Task<object?> AskAsync(string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteScalarAsync();
    }
}
