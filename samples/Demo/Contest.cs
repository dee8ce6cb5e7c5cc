using System.Diagnostics;
using DbLock.LocalServers;

namespace Demo;

/// <summary>The parent's part: starts the server and a worker process for each driver, lets them contend, and judges.</summary>
internal static class Contest
{
    private static readonly TimeSpan Unlocked = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Locked = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Alone = TimeSpan.FromSeconds(0.3);

    /// <summary>Runs the demo.</summary>
    /// <returns>Whether exclusion held.</returns>
    public static async Task<bool> RunAsync(bool withLock, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        await using var server = await PostgreSqlServer.StartAsync();
        await using var board = await Board.CreateAsync(server.ConnectionString, cancellationToken);
        await using var npgsql = new WorkerProcess("Npgsql", board.ConnectionString, server.OdbcConnectionString);
        await using var adoNet = new WorkerProcess("AdoNet", board.ConnectionString, server.OdbcConnectionString);
        await using var odbc = new WorkerProcess("Odbc", board.ConnectionString, server.OdbcConnectionString);
        WorkerProcess[] workers = [npgsql, adoNet, odbc];
        await AllAsync("connect", TimeSpan.Zero);
        Console.WriteLine(
            $"PostgreSQL {server.Version} and three processes of {Worker.Tasks} tasks each, ready in {clock.Elapsed.TotalSeconds:0.0} s.");
        Console.WriteLine("All increment one counter: read it, pause, write it.");

        var unlocked = await PlayAsync("Without the lock", "unlocked", Unlocked);
        if (!withLock)
        {
            return Verdict.Print([unlocked], workers);
        }

        var locked = await PlayAsync("With the lock", "locked", Locked);
        foreach (var worker in workers)
        {
            await worker.ObeyAsync("alone", Alone, cancellationToken);
        }

        return Verdict.Print([unlocked, locked], workers);

        async Task<Round> PlayAsync(string title, string order, TimeSpan time)
        {
            await board.ResetAsync(cancellationToken);
            var table = new LiveTable(title, [.. workers.Select(worker => (worker.Driver, worker.Tally(order)))]);
            var round = AllAsync(order, time);
            while (await Task.WhenAny(round, Task.Delay(LiveTable.Interval, cancellationToken)) != round)
            {
                table.Show(await board.ReadAsync(cancellationToken));
            }

            await round;
            var (counter, most) = await board.ReadAsync(cancellationToken);
            table.Show((counter, most));
            return new(title, workers.Sum(worker => worker.Tally(order).Increments), counter, most);
        }

        Task AllAsync(string order, TimeSpan time) =>
            Everyone.DoneAsync(workers.Select(worker => worker.ObeyAsync(order, time, cancellationToken)));
    }
}
