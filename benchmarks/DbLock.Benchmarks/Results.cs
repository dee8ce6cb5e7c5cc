namespace DbLock.Benchmarks;

/// <summary>What was measured of every row, lap by lap.</summary>
internal sealed class Results
{
    private readonly Dictionary<(Row, bool Async), SortedDictionary<int, List<double>>> _times = [];
    private readonly Dictionary<(Row, bool Async), List<double>> _bytes = [];

    public void Add(Row row, bool async, int lap, IEnumerable<double> microseconds, double bytes)
    {
        if (!_times.TryGetValue((row, async), out var laps))
        {
            _times[(row, async)] = laps = [];
            _bytes[(row, async)] = [];
        }

        laps[lap] = [.. microseconds];
        _bytes[(row, async)].Add(bytes);
    }

    /// <summary>The median of all measurements, in microseconds for an acquire and a release.</summary>
    public double Time(Row row, bool async) => Median(_times[(row, async)].Values.SelectMany(lap => lap));

    /// <summary>The median of the ratios of the laps: what came just after each other is compared.</summary>
    public double Ratio(Row row, Row floor, bool async) =>
        Median(_times[(row, async)].Select(lap => Median(lap.Value) / Median(_times[(floor, async)][lap.Key])));

    /// <summary>How far the middle half of the measurements lies apart, as a part of the median.</summary>
    public double Spread(Row row, bool async)
    {
        var all = _times[(row, async)].Values.SelectMany(lap => lap).Order().ToList();
        return (all[all.Count * 3 / 4] - all[all.Count / 4]) / Median(all);
    }

    public double Bytes(Row row, bool async) => Median(_bytes[(row, async)]);

    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }
}
