using Npgsql;

namespace DbLock.ServerTests;

internal static class NpgsqlCalls
{
    extension(NpgsqlConnection connection)
    {
        /// <summary>Runs SQL without a limit of time, and returns its first value.</summary>
        public async Task<object?> ExecuteAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 0 };
            return await command.ExecuteScalarAsync();
        }
    }
}
