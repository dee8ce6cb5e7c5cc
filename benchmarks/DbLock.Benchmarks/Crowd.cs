using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using MySqlConnector;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>What a <see cref="LockPool"/> carries, and how fast: beside one pooled connection for each lock.</summary>
internal sealed class Crowd(string connectionString, string mariaDb, TimeSpan span, int rounds)
{
    public const string Contender = "--contender";
    private const int Many = 10_000;
    private const string OneKey = "crowd: one key";

    private static readonly string[] ByHand = ["select pg_advisory_lock($1)", "select pg_advisory_unlock($1)"];
    private static readonly string[] ByHandOnMariaDb = ["select get_lock(@k, 3600)", "select release_lock(@k)"];

    private readonly List<Figure> _figures = [];

    /// <summary>One figure and its budget.</summary>
    /// <param name="What">What was measured.</param>
    /// <param name="Value">The figure.</param>
    /// <param name="Budget">What it may be: at most, or at least.</param>
    /// <param name="IsLeast">Whether the budget is the least.</param>
    /// <param name="Remark">More about it.</param>
    public sealed record Figure(string What, double Value, double Budget, bool IsLeast, string Remark)
    {
        public bool IsHeld => IsLeast ? Value >= Budget : Value <= Budget;
    }

    public async Task<IReadOnlyList<Figure>> MeasureAsync()
    {
        await HeldAndWaitingAsync();
        await BellAsync();
        await using (var source = Source("crowd: pool", 100))
        {
            await ThroughputAsync("1,000 tasks, each on a key of its own", source, 10, 1000, task => $"crowd: {task}");
            await ThroughputAsync("100 tasks on one key", source, 10, 100, _ => OneKey);
        }

        await TwoProcessesAsync();
        await OnMariaDbAsync();
        return _figures;
    }

    /// <summary>What a pool carries on MariaDB, over MySqlConnector.</summary>
    public async Task<IReadOnlyList<Figure>> OnMariaDbAsync()
    {
        await using var source = new MySqlDataSource(mariaDb + ";Maximum Pool Size=100");
        await ThroughputAsync("MariaDB, 100 tasks, each on a key of its own", source, 5, 100, task => $"crowd: {task}");
        return _figures;
    }

    /// <summary>Another process with a hundred tasks: tells how many locks it had, and how many microseconds of a core they took.</summary>
    public static async Task<int> ContendAsync(string connectionString, string milliseconds, string keys)
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var pool = new LockPool(source);
        var (among, span) = (int.Parse(keys, CultureInfo.InvariantCulture), TimeSpan.FromMilliseconds(int.Parse(milliseconds, CultureInfo.InvariantCulture)));
        LockKey Key(int task) => among == 1 ? OneKey : $"crowd: {Random.Shared.Next(among)}";

        // Until what is hot is compiled again.
        await CountAsync(pool, 100, Key, TimeSpan.FromSeconds(2));
        Console.WriteLine("ready");
        await Console.In.ReadLineAsync();
        var before = Environment.CpuUsage.TotalTime;
        var count = await CountAsync(pool, 100, Key, span);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{count} {(Environment.CpuUsage.TotalTime - before).TotalMicroseconds}"));
        return 0;
    }

    /// <summary>Lets processes of a hundred tasks each contend for keys.</summary>
    /// <returns>For each process how many locks it had, and how many microseconds of a core they took.</returns>
    public static async Task<IReadOnlyList<(double Locks, double Cpu)>> ContendAsync(string connectionString, int processes, int keys, TimeSpan span)
    {
        var started = Enumerable.Range(0, processes).Select(_ => Process.Start(new ProcessStartInfo(
            Environment.ProcessPath!, [Contender, connectionString, ((int)span.TotalMilliseconds).ToString(CultureInfo.InvariantCulture), keys.ToString(CultureInfo.InvariantCulture)])
        { RedirectStandardInput = true, RedirectStandardOutput = true })!).ToList();
        await Task.WhenAll(started.Select(process => process.StandardOutput.ReadLineAsync()));
        started.ForEach(process => process.StandardInput.WriteLine());
        var told = await Task.WhenAll(started.Select(async process => (await process.StandardOutput.ReadLineAsync())!.Split(' ')));
        await Task.WhenAll(started.Select(process => process.WaitForExitAsync()));
        started.ForEach(process => process.Dispose());
        return [.. told.Select(line => (double.Parse(line[0], CultureInfo.InvariantCulture), double.Parse(line[1], CultureInfo.InvariantCulture)))];
    }

    private async Task HeldAndWaitingAsync()
    {
        await using var source = Source("crowd: holder", 100);
        await using var pool = new LockPool(source);
        var start = Stopwatch.GetTimestamp();
        var held = await Task.WhenAll(Enumerable.Range(0, Many).Select(n => pool.AcquireLockAsync($"crowd: {n}").AsTask()));
        var took = Stopwatch.GetElapsedTime(start);
        Add("connections for 10,000 locks that are held", await ConnectionsAsync("crowd: holder"), 2, isLeast: false, $"acquired in {took.TotalMilliseconds:0} ms");
        await WaitingAsync("10,000 keys held elsewhere", n => $"crowd: {n}", () => Task.WhenAll(held.Select(one => one.DisposeAsync().AsTask())));
        var one = await pool.AcquireLockAsync(OneKey);
        await WaitingAsync("one key held elsewhere", _ => OneKey, () => one.DisposeAsync().AsTask());
    }

    private async Task WaitingAsync(string on, Func<int, LockKey> key, Func<Task> release)
    {
        await using var source = Source("crowd: waiter", 100);
        await using var pool = new LockPool(source);
        await (await pool.AcquireLockAsync("crowd: warm")).DisposeAsync();
        var waits = new Task[Many];
        var before = GC.GetTotalMemory(forceFullCollection: true);
        for (var n = 0; n < Many; n++)
        {
            waits[n] = WaitAsync(key(n));
        }

        await UntilListeningAsync("crowd: waiter");
        var bytes = (GC.GetTotalMemory(forceFullCollection: true) - before) / (double)Many;
        Add($"connections for 10,000 tasks that wait, {on}", await ConnectionsAsync("crowd: waiter"), 4, isLeast: false, "");
        Add($"bytes for each of 10,000 tasks that wait, {on}", bytes, 1024, isLeast: false, "its own state machine included");
        var start = Stopwatch.GetTimestamp();
        await release();
        await Task.WhenAll(waits);
        Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{on}: all had it {Stopwatch.GetElapsedTime(start).TotalMilliseconds:0} ms after the release"));

        async Task WaitAsync(LockKey key)
        {
            await using var held = await pool.AcquireLockAsync(key);
        }
    }

    // From the release in one pool to the grant in another.
    private async Task BellAsync()
    {
        await using var source = Source("crowd: bell", 100);
        await using var pool = new LockPool(source);
        await using var other = new LockPool(source);
        var times = new List<double>();
        for (var round = -5; round < 20 * rounds; round++)
        {
            var held = await pool.AcquireLockAsync(OneKey);
            var wait = Task.Run(async () =>
            {
                await using var granted = await other.AcquireLockAsync(OneKey);
                return Stopwatch.GetTimestamp();
            });

            // When it listens, and another lock of its pool has been asked for and answered after it, it has been refused.
            await UntilListeningAsync("crowd: bell");
            await (await other.AcquireLockAsync("crowd: an answer after that")).DisposeAsync();
            var released = Stopwatch.GetTimestamp();
            await held.DisposeAsync();
            if (round >= 0)
            {
                times.Add(Stopwatch.GetElapsedTime(released, await wait).TotalMilliseconds);
            }
            else
            {
                await wait;
            }
        }

        Add("milliseconds from the release in one pool to the grant in another", Results.Median(times), 10, isLeast: false, $"median of {times.Count}");
    }

    private async Task ThroughputAsync(string what, DbDataSource source, double budget, int tasks, Func<int, LockKey> key)
    {
        await using var pool = new LockPool(source);
        List<(double Pool, double ByHand)> pairs = [];
        for (var round = -1; round < rounds; round++)
        {
            var pair = (await CountAsync(pool, tasks, key, span) / span.TotalSeconds, await ByHandAsync(source, tasks, key) / span.TotalSeconds);
            if (round >= 0)
            {
                pairs.Add(pair);
            }
        }

        Add($"{what}: × one pooled connection for each lock", Results.Median(pairs.Select(pair => pair.Pool / pair.ByHand)), budget, isLeast: true,
            $"{Results.Median(pairs.Select(pair => pair.Pool)):0} against {Results.Median(pairs.Select(pair => pair.ByHand)):0} in a second");
    }

    private async Task TwoProcessesAsync()
    {
        var shares = new List<double>();
        for (var round = 0; round < rounds; round++)
        {
            var counts = (await ContendAsync(connectionString, 2, 1, 4 * span)).Select(process => process.Locks).ToList();
            shares.Add(counts.Min() / counts.Sum());
        }

        Add("two processes with 100 tasks each on one key: the lesser share", Results.Median(shares), 1.0 / 3, isLeast: true, $"least of {rounds} rounds {shares.Min():0.00}");
    }

    /// <summary>Counts how many locks tasks get of a pool, each for a moment.</summary>
    public static Task<long> CountAsync(LockPool pool, int tasks, Func<int, LockKey> key, TimeSpan span) =>
        CountAsync(key => pool.AcquireLockAsync(key), tasks, key, span);

    /// <summary>Counts how many locks tasks get, each for a moment.</summary>
    public static async Task<long> CountAsync<T>(Func<LockKey, ValueTask<T>> acquire, int tasks, Func<int, LockKey> key, TimeSpan span)
        where T : IAsyncDisposable
    {
        var (count, end) = (0L, Stopwatch.GetTimestamp() + (long)(span.TotalSeconds * Stopwatch.Frequency));
        await Task.WhenAll(Enumerable.Range(0, tasks).Select(task => Task.Run(async () =>
        {
            while (Stopwatch.GetTimestamp() < end)
            {
                await using var held = await acquire(key(task));
                Interlocked.Increment(ref count);
            }
        })));
        return count;
    }

    private async Task<long> ByHandAsync(DbDataSource source, int tasks, Func<int, LockKey> key)
    {
        var (count, end) = (0L, Stopwatch.GetTimestamp() + (long)(span.TotalSeconds * Stopwatch.Frequency));
        await Task.WhenAll(Enumerable.Range(0, tasks).Select(task => Task.Run(async () =>
        {
            var mine = key(task);
            while (Stopwatch.GetTimestamp() < end)
            {
                await using var connection = await source.OpenConnectionAsync();
                foreach (var text in connection is NpgsqlConnection ? ByHand : ByHandOnMariaDb)
                {
                    await using DbCommand command = connection is NpgsqlConnection postgreSql
                        ? new NpgsqlCommand(text, postgreSql) { Parameters = { new NpgsqlParameter<long> { TypedValue = mine.Number } } }
                        : new MySqlCommand(text, (MySqlConnection)connection) { Parameters = { new("k", mine.Name) } };
                    await command.ExecuteScalarAsync();
                }

                Interlocked.Increment(ref count);
            }
        })));
        return count;
    }

    private NpgsqlDataSource Source(string name, int most) => NpgsqlDataSource.Create($"{connectionString};Application Name={name};Maximum Pool Size={most};Timeout=60;Max Auto Prepare=10;Auto Prepare Min Usages=2");

    private async Task<long> ConnectionsAsync(string name) =>
        await AskAsync($"select count(*) from pg_stat_activity where application_name like '{name}%'");

    private async Task UntilListeningAsync(string name)
    {
        while (await AskAsync($"select count(*) from pg_stat_activity where application_name like '{name}%' and query like 'listen%'") == 0)
        {
        }
    }

    private async Task<long> AskAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(connectionString + ";Pooling=false");
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        return (long)(await command.ExecuteScalarAsync())!;
    }

    private void Add(string what, double value, double budget, bool isLeast, FormattableString remark) =>
        _figures.Add(new(what, value, budget, isLeast, remark.ToString(CultureInfo.InvariantCulture)));

    private void Add(string what, double value, double budget, bool isLeast, string remark) => _figures.Add(new(what, value, budget, isLeast, remark));
}
