using BenchmarkDotNet.Attributes;

namespace DbLock.Benchmarks;

/// <summary>Runs every row, synchronously and asynchronously, for BenchmarkDotNet.</summary>
[MemoryDiagnoser(displayGenColumns: false)]
public class Benchmarks
{
    /// <summary>How many acquires and releases are one call.</summary>
    public const int Operations = 16;

    private Work? _work;

    /// <summary>What is run; set before the run, in this process.</summary>
    public static IReadOnlyList<Row> Rows { get; set; } = [];

    public static IEnumerable<int> Numbers => Enumerable.Range(0, Rows.Count);

    // A number, because BenchmarkDotNet runs them in the order of the values: each beside its floor.
    [ParamsSource(nameof(Numbers))]
    public int Number { get; set; }

    [GlobalSetup]
    public async Task Setup() => _work = await Rows[Number].Open();

    [GlobalCleanup]
    public void Cleanup()
    {
        foreach (var connection in _work!.Connections)
        {
            connection.Dispose();
        }
    }

    [Benchmark(OperationsPerInvoke = Operations)]
    public void Sync()
    {
        for (var i = 0; i < Operations && _work!.Sync is { } work; i++)
        {
            work();
        }
    }

    [Benchmark(OperationsPerInvoke = Operations)]
    public async Task Async()
    {
        for (var i = 0; i < Operations; i++)
        {
            await _work!.Async();
        }
    }
}
