using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using Medallion.Threading.Postgres;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>What becomes of throughput, latency and the server's CPU as tasks, keys, processes and held locks grow.</summary>
internal sealed class Scale(string connectionString, TimeSpan span, int rounds)
{
    private const int Many = 10_000;

    private readonly List<Crowd.Figure> _figures = [];
    private readonly List<Curves> _curves = [];

    public IReadOnlyList<Curves> Curves => _curves;

    public async Task<IReadOnlyList<Crowd.Figure>> MeasureAsync()
    {
        foreach (var measure in new[] { BatchesAsync, TasksAsync, ProcessesAsync, HoldingAsync, InMemoryAsync })
        {
            Console.Error.WriteLine($"scale: {measure.Method.Name}");
            await measure();
        }

        return _figures;
    }

    // The pool's tasks beside one loop that sends what they would: a hundred unlocks and a hundred tries in a round trip, prepared, as arrays.
    private async Task BatchesAsync()
    {
        await using var source = Source("scale: batches");
        await using var pool = new LockPool(source);
        List<(double Pool, double ByHand)> pairs = [];
        for (var round = -1; round < Math.Max(3, rounds); round++)
        {
            var own = await Crowd.CountAsync(pool, 100, _ => $"scale: {Random.Shared.Next(Many)}", span);
            var byHand = await ByHandAsync(source);
            if (round >= 0)
            {
                pairs.Add((own / span.TotalSeconds, byHand / span.TotalSeconds));
            }
        }

        Add("100 tasks on 10,000 keys: × a loop by hand that sends prepared batches of arrays", Results.Median(pairs.Select(pair => pair.Pool / pair.ByHand)), 0.7, isLeast: true,
            $"{Results.Median(pairs.Select(pair => pair.Pool)):0} against {Results.Median(pairs.Select(pair => pair.ByHand)):0} in a second");
    }

    private async Task<long> ByHandAsync(NpgsqlDataSource source)
    {
        await using var connection = await source.OpenConnectionAsync();
        await using var batch = new NpgsqlBatch(connection)
        {
            BatchCommands =
            {
                new("select array(select pg_advisory_unlock(k) from unnest($1) as k)") { Parameters = { new NpgsqlParameter<long[]> { TypedValue = [] } } },
                new("select array(select pg_try_advisory_lock(k) from unnest($1) as k)") { Parameters = { new NpgsqlParameter<long[]> { TypedValue = [] } } },
            },
        };
        await batch.PrepareAsync();
        var (count, end, before) = (0L, Stopwatch.GetTimestamp() + (long)(span.TotalSeconds * Stopwatch.Frequency), Array.Empty<long>());
        while (before.Length > 0 || Stopwatch.GetTimestamp() < end)
        {
            var isOver = Stopwatch.GetTimestamp() >= end;
            long[] next = isOver ? [] : [.. Enumerable.Range(0, 100).Select(_ => 5_000_000L + Random.Shared.Next(Many)).Distinct()];
            ((NpgsqlParameter<long[]>)batch.BatchCommands[0].Parameters[0]).TypedValue = before;
            ((NpgsqlParameter<long[]>)batch.BatchCommands[1].Parameters[0]).TypedValue = next;
            await using var reader = await batch.ExecuteReaderAsync();
            do
            {
                while (await reader.ReadAsync())
                {
                    reader.GetFieldValue<bool[]>(0);
                }
            }
            while (await reader.NextResultAsync());
            count += next.Length;
            before = next;
        }

        return count;
    }

    private async Task TasksAsync()
    {
        await using var source = Source("scale: tasks");
        await using var pool = new LockPool(source);
        var multiplexed = $"{connectionString};Application Name=scale: peer;Maximum Pool Size=100;Timeout=60";
        List<(double, double)> own = [], peers = [], medians = [], slowest = [];
        foreach (var tasks in new[] { 1, 10, 100, 1000, Many })
        {
            var perSecond = new List<double>();
            var (p50, p99) = (new List<double>(), new List<double>());
            for (var round = -1; round < rounds; round++)
            {
                // Each task goes round often enough to tell.
                var times = await LatenciesAsync(pool, tasks, tasks >= 1000 ? 4 * span : span);
                if (round >= 0)
                {
                    perSecond.Add(times.PerSecond);
                    p50.Add(times.Median);
                    p99.Add(times.P99);
                }
            }

            own.Add((tasks, Results.Median(perSecond)));
            medians.Add((tasks, Results.Median(p50)));
            slowest.Add((tasks, Results.Median(p99)));
            if (tasks <= 1000)
            {
                peers.Add((tasks, await PeersAsync(multiplexed, tasks)));
            }
        }

        Add("10,000 tasks on 10,000 keys: the 99th percentile of an acquire and release, × the median", slowest[^1].Item2 / medians[^1].Item2, 4, isLeast: false,
            $"{medians[^1].Item2:0} ms, {slowest[^1].Item2:0} ms");
        _curves.Add(new("Locks a second, each task on a key of its own", "tasks", [("DbLock, a pool", own), ("DistributedLock, multiplexing", peers)]));
        _curves.Add(new("Milliseconds for an acquire and release of a pool", "tasks", [("median", medians), ("99th percentile", slowest)]));
    }

    private static async Task<(double PerSecond, double Median, double P99)> LatenciesAsync(LockPool pool, int tasks, TimeSpan span)
    {
        var all = new ConcurrentBag<double>();
        var start = Stopwatch.GetTimestamp();
        var end = start + (long)(span.TotalSeconds * Stopwatch.Frequency);
        await Task.WhenAll(Enumerable.Range(0, tasks).Select(task => Task.Run(async () =>
        {
            LockKey key = $"scale: task {task}";
            while (Stopwatch.GetTimestamp() < end)
            {
                var asked = Stopwatch.GetTimestamp();
                await (await pool.AcquireLockAsync(key)).DisposeAsync();
                all.Add(Stopwatch.GetElapsedTime(asked).TotalMilliseconds);
            }
        })));
        var sorted = all.Order().ToList();
        return (sorted.Count / Stopwatch.GetElapsedTime(start).TotalSeconds, sorted[sorted.Count / 2], sorted[sorted.Count * 99 / 100]);
    }

    private async Task<double> PeersAsync(string multiplexed, int tasks)
    {
        var (count, start) = (0L, Stopwatch.GetTimestamp());
        var end = start + (long)(span.TotalSeconds * Stopwatch.Frequency);
        await Task.WhenAll(Enumerable.Range(0, tasks).Select(task => Task.Run(async () =>
        {
            var peer = new PostgresDistributedLock(new PostgresAdvisoryLockKey(LockKey.From($"scale: peer {task}").Number), multiplexed);
            while (Stopwatch.GetTimestamp() < end)
            {
                await using var handle = await peer.AcquireAsync();
                Interlocked.Increment(ref count);
            }
        })));
        return count / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private async Task ProcessesAsync()
    {
        var (sums, least, cpu) = (new Dictionary<int, List<double>>(), new List<double>(), new Dictionary<int, List<double>>());
        foreach (var processes in new[] { 1, 2, 4 })
        {
            (sums[processes], cpu[processes]) = ([], []);
        }

        // In turn, so that what else the machine does hits all alike.
        for (var round = 0; round < Math.Max(3, rounds); round++)
        {
            foreach (var processes in sums.Keys)
            {
                var told = await Crowd.ContendAsync(connectionString, processes, 100, 4 * span);
                var sum = told.Sum(process => process.Locks);
                sums[processes].Add(sum / (4 * span.TotalSeconds));
                cpu[processes].Add(told.Sum(process => process.Cpu) / sum);
                if (processes > 1)
                {
                    least.Add(told.Min(process => process.Locks) * processes / sum);
                }
            }
        }

        foreach (var processes in new[] { 2, 4 })
        {
            var what = string.Create(CultureInfo.InvariantCulture, $"{processes} processes with 100 tasks each on 100 keys");
            Add($"{what}: the sum, × that of one", Results.Median(sums[processes].Zip(sums[1], (more, one) => more / one)), 1, isLeast: true, $"{Results.Median(sums[processes]):0} locks in a second");
            Add($"{what}: CPU of the clients for each lock, × that of one", Results.Median(cpu[processes].Zip(cpu[1], (more, one) => more / one)), 1.5, isLeast: false, $"{Results.Median(cpu[processes]):0} µs");
        }

        Add("2 and 4 processes with 100 tasks each on 100 keys: the least share, × an equal one", Results.Median(least), 2.0 / 3, isLeast: true, $"least of all rounds {least.Min():0.00}");
        _curves.Add(new("Locks a second of all processes, 100 tasks each on 100 keys", "processes", [("DbLock, a pool", [.. sums.Select(one => ((double)one.Key, Results.Median(one.Value)))])]));
    }

    // What the server's processes use while locks are only held, beside a lock table that is large.
    private async Task HoldingAsync()
    {
        await using var others = new NpgsqlConnection(connectionString + ";Pooling=false");
        await others.OpenAsync();
        await using (var take = new NpgsqlCommand($"select count(pg_advisory_lock_shared(11, n)) from generate_series(1, {Many}) as n", others))
        {
            await take.ExecuteScalarAsync();
        }

        await using var source = Source("scale: holding", 200);
        List<HeldLock> held = [];
        List<(double, double)> used = [];
        foreach (var count in new[] { 1, 10, 40, 160 })
        {
            while (held.Count < count)
            {
                held.Add(await source.AcquireLockAsync($"scale: held {held.Count}"));
            }

            // The settings of a session travel with its first beat.
            await Task.Delay(TimeSpan.FromSeconds(1));
            var (before, start) = (await CpuAsync(connectionString, "scale: holding"), Stopwatch.GetTimestamp());
            await Task.Delay(8 * span);
            used.Add((count, Math.Max(0.01, 100 * (await CpuAsync(connectionString, "scale: holding") - before) / Stopwatch.GetElapsedTime(start).TotalSeconds)));
        }

        Add("160 locks of a data source held, beside 10,000 other locks: % of a core of the server", used[^1].Item2, 2, isLeast: false, $"over {8 * span.TotalSeconds:0.0} s");
        _curves.Add(new("% of a core of the server, beside 10,000 other locks", "locks of a data source that are held", [("DbLock", used)]));

        var times = new List<double>();
        foreach (var one in held.Take(10))
        {
            var lost = new TaskCompletionSource<long>(TaskCreationOptions.RunContinuationsAsynchronously);
            await using var registration = one.Lost.Register(() => lost.TrySetResult(Stopwatch.GetTimestamp()));
            var killed = Stopwatch.GetTimestamp();
            await using var kill = new NpgsqlCommand(
                $"select pg_terminate_backend(l.pid) from pg_locks as l where l.locktype = 'advisory' and l.granted and ((l.classid::bigint << 32) | l.objid::bigint) = {one.Key.Number}", others);
            await kill.ExecuteNonQueryAsync();
            times.Add(Stopwatch.GetElapsedTime(killed, await lost.Task).TotalMilliseconds);
        }

        Add("milliseconds until the end of a session is noticed, of 160 that hold", times.Max(), 1000, isLeast: false, $"the longest of {times.Count}; median {Results.Median(times):0}");
        await Task.WhenAll(held.Select(one => one.DisposeAsync().AsTask()));
    }

    /// <summary>Returns the seconds of a core that the server's processes for an application have used.</summary>
    public static async Task<double> CpuAsync(string connectionString, string application)
    {
        await using var connection = new NpgsqlConnection(connectionString + ";Pooling=false");
        await connection.OpenAsync();
        await using var pids = new NpgsqlCommand("select pid from pg_stat_activity where application_name like $1 || '%'", connection) { Parameters = { new NpgsqlParameter<string> { TypedValue = application } } };
        await using var reader = await pids.ExecuteReaderAsync();
        var nanoseconds = 0.0;
        while (await reader.ReadAsync())
        {
            // The first number is the time on a core: https://docs.kernel.org/scheduler/sched-stats.html
            var stat = await File.ReadAllTextAsync(string.Create(CultureInfo.InvariantCulture, $"/proc/{reader.GetInt32(0)}/schedstat"));
            nanoseconds += double.Parse(stat.Split(' ')[0], CultureInfo.InvariantCulture);
        }

        return nanoseconds / 1e9;
    }

    private async Task InMemoryAsync()
    {
        var ratios = new List<double>();
        for (var round = -1; round < Math.Max(3, rounds); round++)
        {
            var source = new InMemoryLockServer().CreateDataSource();
            var waits = new List<Task>();
            await using (await source.AcquireLockAsync("scale: one"))
            {
                double Queue()
                {
                    var start = Stopwatch.GetTimestamp();
                    for (var n = 0; n < 1000; n++)
                    {
                        waits.Add(WaitAsync());
                    }

                    return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
                }

                List<double> thousands = [.. Enumerable.Range(0, 10).Select(_ => Queue())];
                if (round >= 0)
                {
                    ratios.Add(thousands[^1] / thousands[0]);
                }
            }

            await Task.WhenAll(waits);

            async Task WaitAsync()
            {
                await using var held = await source.AcquireLockAsync("scale: one");
            }
        }

        Add("in memory, 10,000 waiters on one key: time to queue the last thousand, × that of the first", Results.Median(ratios), 2, isLeast: false, $"median of {ratios.Count} rounds");
    }

    private NpgsqlDataSource Source(string name, int most = 100) =>
        NpgsqlDataSource.Create($"{connectionString};Application Name={name};Maximum Pool Size={most};Timeout=60");

    private void Add(string what, double value, double budget, bool isLeast, FormattableString remark) =>
        _figures.Add(new(what, value, budget, isLeast, remark.ToString(CultureInfo.InvariantCulture)));
}
