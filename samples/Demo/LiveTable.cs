using System.Diagnostics;

namespace Demo;

/// <summary>The table of a round that runs: drawn over itself on a terminal, elsewhere a line now and then.</summary>
internal sealed class LiveTable(string title, IReadOnlyList<(string Driver, Tally Tally)> workers)
{
    private const int Width = 70;

    private static readonly bool IsDrawn = !Console.IsOutputRedirected
        && Environment.GetEnvironmentVariable("TERM") is not (null or "" or "dumb")
        && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"))
        && Console.WindowWidth is 0 or > Width; // a line that wraps is two, and the next picture would miss this one

    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private int _height;

    /// <summary>How often to show it.</summary>
    public static TimeSpan Interval { get; } = TimeSpan.FromSeconds(IsDrawn ? 0.1 : 0.7);

    private string Seconds => $"{_clock.Elapsed.TotalSeconds:0.0} s";

    public void Show((long Counter, int Most) board)
    {
        if (!IsDrawn)
        {
            var drivers = string.Join(", ", workers.Select(worker => $"{worker.Driver} {worker.Tally.Increments}"));
            Console.WriteLine($"{title}, {Seconds}: {drivers}; counter {board.Counter}; most inside {board.Most}");
            return;
        }

        string[] lines =
        [
            "",
            $"  {title,-17} {"increments",10} {"given up",10}   {Seconds}",
            .. workers.Select(worker => $"    {worker.Driver,-15} {worker.Tally.Increments,10:N0} {worker.Tally.GivenUp,10:N0}"),
            $"    {"all",-15} {workers.Sum(worker => worker.Tally.Increments),10:N0} {workers.Sum(worker => worker.Tally.GivenUp),10:N0}",
            $"    {"the counter",-15} {board.Counter,10:N0}              most inside at once: {board.Most}",
        ];

        // Back up over the last picture; then each line, and a blank for what the last one had more.
        var up = _height == 0 ? "" : $"\e[{_height}A";
        Console.Write(up + string.Concat(lines.Select(line => $"\r{line}\e[K\n")));
        _height = lines.Length;
    }
}
