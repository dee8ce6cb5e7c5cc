using System.Diagnostics;
using BenchmarkDotNet.Attributes;

namespace DbLock.Benchmarks;

/// <summary>Runs every row, synchronously and asynchronously, for BenchmarkDotNet. Just before each of its measurements the row's floor does as much.</summary>
public class Benchmarks
{
    /// <summary>How many acquires and releases are one measurement.</summary>
    public const int Operations = 16;

    private Work? _floor;
    private double _floorTook;
    private Work? _work;

    /// <summary>What is run; set before the run, in this process.</summary>
    public static IReadOnlyList<Row> Rows { get; set; } = [];

    /// <summary>How many microseconds the floor and the row took, in turn.</summary>
    public static Dictionary<(Row Row, bool Async), List<(double Floor, double Row)>> Pairs { get; } = [];

    /// <summary>What is allocated for an acquire and a release.</summary>
    public static Dictionary<(Row Row, bool Async), List<double>> Bytes { get; } = [];

    public static IEnumerable<int> Numbers => Enumerable.Range(0, Rows.Count);

    // A number, because BenchmarkDotNet runs them in the order of the values.
    [ParamsSource(nameof(Numbers))]
    public int Number { get; set; }

    private Row Row => Rows[Number];

    // BenchmarkDotNet counts bytes for one measurement alone, and in blocks of eight kilobytes.
    [GlobalSetup(Target = nameof(Sync))]
    public async Task SetupSync()
    {
        await OpenAsync();
        RunSync(_work!);
        var before = GC.GetTotalAllocatedBytes(precise: true);
        RunSync(_work!);
        Add(Bytes, async: false, (double)(GC.GetTotalAllocatedBytes(precise: true) - before) / Operations);
    }

    [GlobalSetup(Target = nameof(Async))]
    public async Task SetupAsync()
    {
        await OpenAsync();
        await RunAsync(_work!);
        var before = GC.GetTotalAllocatedBytes(precise: true);
        await RunAsync(_work!);
        Add(Bytes, async: true, (double)(GC.GetTotalAllocatedBytes(precise: true) - before) / Operations);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        foreach (var owned in _work!.Owned.Concat(_floor?.Owned ?? []))
        {
            owned.Dispose();
        }
    }

    [IterationSetup(Target = nameof(Sync))]
    public void FloorSync() => _floorTook = _floor is null ? 0 : RunSync(_floor);

    // BenchmarkDotNet waits for no set-up of an iteration.
    [IterationSetup(Target = nameof(Async))]
    public void FloorAsync() => _floorTook = _floor is null ? 0 : RunAsync(_floor).GetAwaiter().GetResult();

    [Benchmark(OperationsPerInvoke = Operations)]
    public void Sync() => Add(Pairs, async: false, (_floorTook, RunSync(_work!)));

    [Benchmark(OperationsPerInvoke = Operations)]
    public async Task Async() => Add(Pairs, async: true, (_floorTook, await RunAsync(_work!)));

    private static double RunSync(Work work)
    {
        var start = Stopwatch.GetTimestamp();
        for (var i = 0; i < Operations && work.Sync is { } once; i++)
        {
            once();
        }

        return Stopwatch.GetElapsedTime(start).TotalMicroseconds / Operations;
    }

    private static async Task<double> RunAsync(Work work)
    {
        var start = Stopwatch.GetTimestamp();
        for (var i = 0; i < Operations; i++)
        {
            await work.Async();
        }

        return Stopwatch.GetElapsedTime(start).TotalMicroseconds / Operations;
    }

    private async Task OpenAsync()
    {
        _work = await Row.Open();
        _floor = Row is { Floor: { } floor, IsApart: false } ? await Rows.First(row => row.Group == Row.Group && row.Name == floor).Open() : null;
    }

    private void Add<T>(Dictionary<(Row Row, bool Async), List<T>> results, bool async, T result) =>
        (results.TryGetValue((Row, async), out var of) ? of : results[(Row, async)] = []).Add(result);
}
