namespace DbLock.Benchmarks;

/// <summary>What was measured of every row.</summary>
internal sealed class Results
{
    private readonly Dictionary<(Row, bool Async), List<List<double>>> _laps = [];

    public void Add(Row row, bool async, IEnumerable<double> microseconds) =>
        (_laps.TryGetValue((row, async), out var laps) ? laps : _laps[(row, async)] = []).Add([.. microseconds]);

    /// <summary>The median of all measurements, in microseconds for an acquire and a release.</summary>
    public double Time(Row row, bool async) => Median(_laps[(row, async)].SelectMany(lap => lap));

    /// <summary>The median of the ratios of a row and its floor, each pair measured in turn; of those that are apart, of the ratios of the laps.</summary>
    public double Ratio(Row row, Row floor, bool async) => Median(
        row.IsApart
            ? _laps[(row, async)].Zip(_laps[(floor, async)], (lap, floorLap) => Median(lap) / Median(floorLap))
            : Benchmarks.Pairs[(row, async)].Select(pair => pair.Row / pair.Floor));

    /// <summary>How far a measurement of the floor mostly lies from the one before it, as a part of it.</summary>
    public double Spread(Row row, Row floor, bool async) =>
        Change(row.IsApart ? _laps[(floor, async)].SelectMany(lap => lap) : Benchmarks.Pairs[(row, async)].Select(pair => pair.Floor));

    /// <summary>The median of what is allocated for an acquire and a release.</summary>
    public static double Bytes(Row row, bool async) => Median(Benchmarks.Bytes[(row, async)]);

    public static double Change(IEnumerable<double> values) => Median(values.Zip(values.Skip(1), (before, after) => Math.Abs(after - before) / before));

    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }
}
