namespace Demo;

/// <summary>Times that were measured, in microseconds.</summary>
internal sealed class Times
{
    private readonly List<int> _times = [];

    public int Count => _times.Count;

    public void Add(int microseconds) => _times.Add(microseconds);

    /// <summary>Returns the median and the 95th percentile in milliseconds, as two columns.</summary>
    public override string ToString() => $"{Percentile(50),8:0.00} {Percentile(95),8:0.00}";

    // By the nearest rank: a time that was measured, not one between two.
    private double Percentile(int percent) => _times.Order().ElementAt((_times.Count * percent + 99) / 100 - 1) / 1000.0;
}
