using System.Globalization;
using System.Text;

namespace DbLock.Benchmarks;

/// <summary>The tables, the picture and the verdict.</summary>
internal sealed class Report
{
    private const double MostSpread = 0.20;
    private const double HandoffBudget = 1.20;
    private const string Begin = "<!-- bench: written by ./build.sh bench -->";
    private const string End = "<!-- /bench -->";

    private readonly StringBuilder _tables = new();
    private readonly IReadOnlyList<Peers.Comparison> _comparisons;
    private readonly IReadOnlyList<Curves> _curves;

    public Report(IReadOnlyList<Row> rows, Results results, Dictionary<string, List<double>> handoff, IReadOnlyList<Crowd.Figure> crowd, IReadOnlyList<Peers.Comparison> comparisons, IReadOnlyList<Curves> curves, Version server, bool isShort, bool isPart)
    {
        (_comparisons, _curves) = (comparisons, curves);
        Line((FormattableString)$"Medians of one run of {DateTime.UtcNow:yyyy-MM-dd}{(isShort ? " (short: less exact)" : "")}{(isPart ? " (a part)" : "")}: .NET {Environment.Version}, PostgreSQL {server}, {Environment.ProcessorCount} cores, the client on one and the server on the others, loopback.");
        Line((FormattableString)$"Times are microseconds for one acquire and one release; bytes are what the client allocates for them. A ratio is the median over pairs of measurements, one of the row just after one of its floor; none is told when half of the floor's measurements lie more than {MostSpread:P0} from the one before.");
        Line("");
        Line("### Beside DistributedLock.Postgres");
        Line("");
        Line("The same work by both, in turn, asynchronously; quartiles are of the ratio.");
        Line("");
        Line("| | DbLock | DistributedLock | DbLock is | quartiles | DistributedLock is used |");
        Line("|---|---:|---:|---:|---:|---|");
        foreach (var comparison in comparisons)
        {
            var ratios = comparison.Times.Select(times => times.Peer / times.DbLock).ToList();
            var ratio = Results.Median(ratios);
            Line((FormattableString)$"| {comparison.What} | {Number(Results.Median(comparison.Times.Select(times => times.DbLock)))} | {Number(Results.Median(comparison.Times.Select(times => times.Peer)))} | **{Than(ratio)}** | {Than(Quartile(ratios, 1))} to {Than(Quartile(ratios, 3))} | {(comparison.Remark.Length == 0 ? "alike" : comparison.Remark)} |");
            Count(ratio >= 1, string.Create(CultureInfo.InvariantCulture, $"{comparison.What}, beside DistributedLock {comparison.Remark}: {ratio:0.00} × as fast, at least 1"));
        }

        foreach (var group in rows.GroupBy(row => row.Group))
        {
            Line("");
            Line($"### {group.Key}");
            Line("");
            Line("| | sync | ratio | bytes | async | ratio | bytes |");
            Line("|---|---:|---:|---:|---:|---:|---:|");
            foreach (var row in group)
            {
                var floor = group.FirstOrDefault(other => other.Name == row.Floor);
                var cells = new List<string> { row.Name };
                foreach (var async in new[] { false, true })
                {
                    if (results.Time(row, async) < 1)
                    {
                        // There is no synchronous form.
                        cells.AddRange(["", "", ""]);
                        continue;
                    }

                    cells.AddRange([Number(results.Time(row, async)), floor is null ? "1.00" : Judge(row, floor, async, results), $"{Results.Bytes(row, async):0}"]);
                }

                Line($"| {string.Join(" | ", cells)} |");
            }
        }

        Line("");
        Line("### From the release in one process to the grant in another that waits");
        Line("");
        Line("| | median | quartiles | ratio |");
        Line("|---|---:|---:|---:|");
        foreach (var (way, floor) in Handoff.Ways)
        {
            var times = handoff[way];
            var ratio = "1.00";
            if (floor is not null)
            {
                var raw = handoff[floor];
                ratio = Verdict($"handoff, {way}", Results.Median(times.Zip(raw, (one, other) => one / other)), HandoffBudget, Results.Change(raw));
            }

            Line($"| {way} | {Number(Results.Median(times))} | {Number(Quartile(times, 1))} to {Number(Quartile(times, 3))} | {ratio} |");
        }

        Line("");
        Line("### Many locks and waiters");
        Line("");
        Line("| | figure | budget | |");
        Line("|---|---:|---:|---|");
        foreach (var figure in crowd)
        {
            var budget = string.Create(CultureInfo.InvariantCulture, $"{(figure.IsLeast ? "at least" : "at most")} {figure.Budget:0.##}");
            Line((FormattableString)$"| {figure.What} | {figure.Value:0.##} | {budget} | {figure.Remark} |");
            Count(figure.IsHeld, string.Create(CultureInfo.InvariantCulture, $"{figure.What}: {figure.Value:0.##}, {budget}"));
        }

        Line("");
        Line($"### {Held} budgets held, {Missed.Count} missed");
        Line("");
        Missed.ForEach(missed => Line($"- {missed}"));
    }

    public int Held { get; private set; }

    public List<string> Missed { get; } = [];

    public string Tables() => _tables.ToString();

    /// <summary>Puts the tables between the marks of the page, and the pictures beside it.</summary>
    public void Write(string folder)
    {
        var page = Path.Combine(folder, "performance.md");
        var text = File.ReadAllText(page);
        var (begin, end) = (text.IndexOf(Begin, StringComparison.Ordinal), text.IndexOf(End, StringComparison.Ordinal));
        File.WriteAllText(
            page,
            $"{text[..(begin + Begin.Length)]}\n\n![Microseconds for an acquire and a release, beside DistributedLock](performance.svg)\n\n{_tables}\n{text[end..]}");
        File.WriteAllText(Path.Combine(folder, "performance.svg"), Picture.OfPairs("Microseconds for an acquire and a release (logarithmic)", [.. _comparisons.Select(
            one => ($"{one.What}{(one.Remark.Length > 0 ? $" ({one.Remark})" : "")}", Results.Median(one.Times.Select(times => times.DbLock)), Results.Median(one.Times.Select(times => times.Peer))))]));
        File.WriteAllText(Path.Combine(folder, "scale.svg"), Picture.OfCurves(_curves));
    }

    private static double Quartile(List<double> values, int quartile) => values.Order().ElementAt(values.Count * quartile / 4);

    private static string Number(double value) => value.ToString(value < 1000 ? "0.0" : "0", CultureInfo.InvariantCulture);

    private static string Than(double ratio) => ratio >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{ratio:0.0} × faster")
        : string.Create(CultureInfo.InvariantCulture, $"{1 / ratio:0.0} × slower");

    private void Line(FormattableString line) => Line(line.ToString(CultureInfo.InvariantCulture));

    private void Line(string line) => _tables.Append(line).Append('\n');

    private string Judge(Row row, Row floor, bool async, Results results)
    {
        var mode = async ? "async" : "sync";
        if (row.MoreBytes is { } most)
        {
            var more = Results.Bytes(row, async) - Results.Bytes(floor, async);
            Count(more <= most, string.Create(CultureInfo.InvariantCulture, $"{row} ({mode}): {more:0} bytes more than its floor, at most {most}"));
        }

        var ratio = results.Ratio(row, floor, async);
        return row.Budget is { } budget ? Verdict($"{row} ({mode})", ratio, budget, results.Spread(row, floor, async)) : Ratio(ratio, results.Spread(row, floor, async));
    }

    private string Verdict(string name, double ratio, double budget, double spread)
    {
        if (spread > MostSpread)
        {
            Missed.Add(string.Create(CultureInfo.InvariantCulture, $"{name}: not judged, its floor varied by {spread:P0} (at most {MostSpread:P0}): run it again on a quieter machine"));
        }
        else
        {
            Count(ratio <= budget, string.Create(CultureInfo.InvariantCulture, $"{name}: {ratio:0.00} × its floor, at most {budget:0.00}"));
        }

        return Ratio(ratio, spread);
    }

    private static string Ratio(double ratio, double spread) =>
        spread > MostSpread ? string.Create(CultureInfo.InvariantCulture, $"(floor varied by {spread:P0})") : ratio.ToString("0.00", CultureInfo.InvariantCulture);

    private void Count(bool isHeld, string otherwise)
    {
        if (isHeld)
        {
            Held++;
        }
        else
        {
            Missed.Add(otherwise);
        }
    }
}
