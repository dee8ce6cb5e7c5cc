using Npgsql;

// The least that a program with Npgsql can do: connect, take a lock, run a command, let go.
await using var connection = new NpgsqlConnection(Environment.GetEnvironmentVariable("DBLOCK_CONNECTION") + ";Pooling=false");
await connection.OpenAsync();
await using (var acquire = new NpgsqlCommand("select pg_try_advisory_lock(42)", connection))
{
    if (await acquire.ExecuteScalarAsync() is not true)
    {
        return 75;
    }
}

using var command = System.Diagnostics.Process.Start("/bin/true");
await command.WaitForExitAsync();
await using var release = new NpgsqlCommand("select pg_advisory_unlock(42)", connection);
await release.ExecuteScalarAsync();
return command.ExitCode;
