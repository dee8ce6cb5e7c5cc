using DbLock;
using Npgsql;
using Lock = DbLock.Lock;

namespace Fencing;

/// <summary>Two writers of one ledger. The first is paused after it got the lock, and goes on when the second has had it.</summary>
public static class StaleWriter
{
    /// <summary>Runs both.</summary>
    /// <returns>Whether the stale write was refused and the other one was not.</returns>
    public static async Task<bool> RunAsync(string connectionString, TextWriter output)
    {
        var ledger = $"ledger_{Guid.NewGuid():N}";
        await using var resource = NpgsqlDataSource.Create(connectionString);
        await ExecuteAsync(resource, $"create table {ledger} (balance int not null, fence bigint not null)");
        try
        {
            await ExecuteAsync(resource, $"insert into {ledger} values (0, 0)");
            await using var paused = await ConnectAsync(connectionString);
            await using var first = new Lock(paused, ledger, options: new LockOptions { Fencing = true });
            await first.AcquireAsync();
            await output.WriteLineAsync($"The first writer holds the lock, with token {first.FencingToken}, and is paused.");

            // Its session dies: an idle timeout, a network that was cut, an administrator. The first writer still believes in its lock.
            await ExecuteAsync(resource, $"select pg_terminate_backend({paused.ProcessID})");

            await using var other = await ConnectAsync(connectionString);
            await using var second = new Lock(other, ledger, options: new LockOptions { Fencing = true });
            await second.AcquireAsync();
            var wrote = await WriteAsync(resource, ledger, second);
            await output.WriteLineAsync($"The second writer holds the lock, with token {second.FencingToken}; its write was {(wrote ? "taken" : "refused")}.");

            var staleWrote = await WriteAsync(resource, ledger, first);
            await output.WriteLineAsync($"The first writer goes on, with token {first.FencingToken}; its write was {(staleWrote ? "taken" : "refused")}.");
            return wrote && !staleWrote;
        }
        finally
        {
            await ExecuteAsync(resource, $"drop table {ledger}");
        }
    }

    // The resource remembers the largest token that it has seen.
    private static async Task<bool> WriteAsync(NpgsqlDataSource resource, string ledger, Lock @lock)
    {
        await using var write = resource.CreateCommand($"update {ledger} set balance = balance + 1, fence = $1 where fence <= $1");
        write.Parameters.Add(new NpgsqlParameter<long> { TypedValue = @lock.FencingToken!.Value });
        return await write.ExecuteNonQueryAsync() == 1;
    }

    private static async Task<NpgsqlConnection> ConnectAsync(string connectionString)
    {
        var connection = new NpgsqlConnection(connectionString + ";Pooling=false");
        await connection.OpenAsync();
        return connection;
    }

    private static async Task ExecuteAsync(NpgsqlDataSource resource, string sql)
    {
        await using var command = resource.CreateCommand(sql);
        await command.ExecuteNonQueryAsync();
    }
}
