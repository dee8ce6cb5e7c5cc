using System.Diagnostics;
using System.Globalization;

namespace DbLock.Torture;

/// <summary>A worker and its network, as the conductor sees it: a process that is killed is followed by another.</summary>
/// <param name="name">Its name.</param>
/// <param name="driver">The driver's name.</param>
/// <param name="kind"><c>connection</c>, <c>source</c> or <c>pool</c>.</param>
/// <param name="via">A pooler's mode; empty for none.</param>
/// <param name="gateway">Its network.</param>
/// <param name="handle">Answers what it says: the words after the number.</param>
internal sealed class WorkerProcess(string name, string driver, string kind, string via, Gateway gateway, Func<WorkerProcess, int, string[], Task<string>> handle) : IDisposable
{
    private Process? _process;
    private int _generation;
    private bool _isKilled;

    public string Name { get; } = name;

    public string Kind { get; } = kind;

    public string Via { get; } = via;

    public Gateway Gateway { get; } = gateway;

    /// <summary>Gets when it last said something.</summary>
    public long HeardAt { get; private set; }

    /// <summary>Gets the last of its processes that was killed, by its number.</summary>
    public int DeadGeneration { get; private set; }

    public override string ToString() => $"{Name} ({driver}, {Kind}{(Via.Length > 0 ? $", PgBouncer in {Via} mode" : "")})";

    /// <summary>Starts the process.</summary>
    /// <param name="npgsql">Its connection string for Npgsql, or for MySqlConnector.</param>
    /// <param name="odbc">The same for psqlODBC.</param>
    /// <param name="seed">The campaign's seed.</param>
    /// <param name="sabotage">What it does wrong on purpose; empty for nothing.</param>
    /// <param name="died">Is called when it ends by itself, with what it wrote last to its errors.</param>
    public void Start(string npgsql, string odbc, int seed, string sabotage, Action<string> died)
    {
        string[] words = ["worker", Name, (++_generation).ToString(CultureInfo.InvariantCulture), driver, Kind, Via, seed.ToString(CultureInfo.InvariantCulture), sabotage];
        var start = new ProcessStartInfo(Environment.ProcessPath!, words) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["TORTURE_NPGSQL"] = npgsql;
        start.Environment["TORTURE_ODBC"] = odbc;
        start.Environment["DOTNET_TieredPGO"] = "0";
        HeardAt = Observer.Now;
        _isKilled = false;
        _ = ListenAsync(_process = Process.Start(start)!, _generation, died);
    }

    /// <summary>Pauses the process for some milliseconds. Somebody else does, who lets it go on though we be killed meanwhile: a paused process never learns that we are gone.</summary>
    public async Task PauseAsync(int milliseconds)
    {
        var id = _process!.Id.ToString(CultureInfo.InvariantCulture);
        using var pause = Process.Start("sh", ["-c", "kill -STOP $1; sleep $2; kill -CONT $1", "pause", id, (milliseconds / 1000.0).ToString(CultureInfo.InvariantCulture)]);
        await pause.WaitForExitAsync();
    }

    /// <summary>Kills the process and waits for its end.</summary>
    public async Task KillAsync()
    {
        _isKilled = true;
        _process!.Kill();
        await _process.WaitForExitAsync();
        Interlocked.Exchange(ref _process, null)?.Dispose();
    }

    /// <summary>Says that nothing more counts of what the killed process said.</summary>
    public void Bury() => DeadGeneration = _generation;

    public void Dispose()
    {
        _isKilled = true;
        if (Interlocked.Exchange(ref _process, null) is { HasExited: false } process)
        {
            process.Kill();
        }

        Gateway.Dispose();
    }

    private async Task ListenAsync(Process process, int generation, Action<string> died)
    {
        // Its errors, of which libpq's notices are most.
        var errors = new Queue<string>();
        process.ErrorDataReceived += (_, line) =>
        {
            lock (errors)
            {
                errors.Enqueue(line.Data ?? "");
                if (errors.Count > 30)
                {
                    errors.Dequeue();
                }
            }
        };
        process.BeginErrorReadLine();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            HeardAt = Observer.Now;
            _ = AnswerAsync(process, generation, line.Split('|'));
        }

        if (!_isKilled && process == _process)
        {
            await process.WaitForExitAsync();
            died(string.Join(' ', errors));
        }
    }

    private async Task AnswerAsync(Process process, int generation, string[] words)
    {
        var answer = await handle(this, generation, words[1..]);
        try
        {
            lock (process)
            {
                process.StandardInput.WriteLine($"{words[0]}|{answer}");
                process.StandardInput.Flush();
            }
        }
        catch (Exception e) when (e is IOException or InvalidOperationException or ObjectDisposedException)
        {
            // It was killed before it heard the answer.
        }
    }
}
