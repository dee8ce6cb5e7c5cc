using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A process of samples/Leader, on a network of its own.</summary>
internal sealed class LeaderProcess : IAsyncDisposable
{
    private readonly Process _process;
    private readonly SilentRelay _network;
    private readonly List<Line> _lines = [];
    private readonly Task _reading;

    private LeaderProcess(ProcessStartInfo start, SilentRelay network, string name)
    {
        (_network, Name) = (network, name);
        _process = Process.Start(start)!;
        _reading = ReadAsync();
    }

    public string Name { get; }

    /// <summary>Gets when it was paused or cut off, on the clock of all processes; null when it was not.</summary>
    public long? DisturbedAt { get; private set; }

    /// <summary>Gets what it has said.</summary>
    public Line[] Lines
    {
        get
        {
            lock (_lines)
            {
                return [.. _lines];
            }
        }
    }

    public bool Leads => Lines.LastOrDefault() is { What: "Leads" };

    public string Last => Lines.LastOrDefault(line => line.What is not "Leads").What ?? "";

    public static LeaderProcess Start(string connectionString, string key, string scope)
    {
        var name = $"leader-{Guid.NewGuid():N}"[..20];
        var server = new NpgsqlConnectionStringBuilder(connectionString);
        var network = new SilentRelay(server.Host!, server.Port);
        (server.Host, server.Port, server.ApplicationName, server.Timeout) = ("127.0.0.1", network.Port, name, 5);
        string[] arguments =
        [
            "--Leader:Key", key, "--DbLock:Scope", scope, "--DbLock:Fencing", "true", "--Logging:LogLevel:Default", "None",
            .. scope == "Lease" ? ["--DbLock:Lease", "00:00:04", "--DbLock:ClockMargin", "00:00:00"] : Array.Empty<string>(),
        ];
        var start = new ProcessStartInfo(BuiltPrograms.Path("Leader", "Leader"), arguments) { RedirectStandardOutput = true };
        start.Environment["ConnectionStrings__Default"] = server.ConnectionString;
        return new(start, network, name);
    }

    /// <summary>Pauses the process.</summary>
    public async Task PauseAsync()
    {
        await SignalAsync("STOP");
        DisturbedAt = Stopwatch.GetTimestamp();
    }

    /// <summary>Lets what it sends and what is sent to it go nowhere. Its connections stay open.</summary>
    public void CutOff()
    {
        _network.FallSilent();
        DisturbedAt = Stopwatch.GetTimestamp();
    }

    public async Task SignalAsync(string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", _process.Id.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
    }

    public async Task ExitAsync()
    {
        await _process.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(1));
        await _reading;
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await ExitAsync();
        _process.Dispose();
        await _network.DisposeAsync();
    }

    private async Task ReadAsync()
    {
        while (await _process.StandardOutput.ReadLineAsync() is { } line)
        {
            var words = line.Split(' ');
            lock (_lines)
            {
                _lines.Add(new(
                    long.Parse(words[0], CultureInfo.InvariantCulture), words[1], words.Length > 2 ? long.Parse(words[2], CultureInfo.InvariantCulture) : 0));
            }
        }
    }

    /// <summary>What it said, and when it began to, on the clock of all processes.</summary>
    public readonly record struct Line(long At, string What, long Token);
}
