using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace DbLock.Torture;

/// <summary>A worker and its network, as the conductor sees it: a process that is killed is followed by another.</summary>
/// <param name="name">Its name.</param>
/// <param name="driver">The driver's name.</param>
/// <param name="kind"><c>connection</c>, <c>source</c> or <c>pool</c>.</param>
/// <param name="via">A pooler's mode; empty for none.</param>
/// <param name="gateway">Its network.</param>
/// <param name="handle">Answers what it says: the words after the number.</param>
internal sealed partial class WorkerProcess(string name, string driver, string kind, string via, Gateway gateway, Func<WorkerProcess, string[], Task<string>> handle) : IDisposable
{
    private const int Stop = 19;
    private const int Continue = 18;

    private Process? _process;
    private int _generation;
    private bool _isKilled;

    public string Name { get; } = name;

    public string Kind { get; } = kind;

    public string Via { get; } = via;

    public Gateway Gateway { get; } = gateway;

    /// <summary>Gets when it last said something.</summary>
    public long HeardAt { get; private set; }

    public override string ToString() => $"{Name} ({driver}, {Kind}{(Via.Length > 0 ? $", PgBouncer in {Via} mode" : "")})";

    /// <summary>Starts the process.</summary>
    /// <param name="npgsql">Its connection string for Npgsql.</param>
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
        _ = ListenAsync(_process = Process.Start(start)!, died);
    }

    public void Pause() => Signal(Stop);

    public void GoOn() => Signal(Continue);

    /// <summary>Kills the process and waits for its end.</summary>
    public async Task KillAsync()
    {
        _isKilled = true;
        _process!.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        _process = null;
    }

    public void Dispose()
    {
        _isKilled = true;
        if (Interlocked.Exchange(ref _process, null) is { } process)
        {
            process.Kill();
            process.Dispose();
        }

        Gateway.Dispose();
    }

    private async Task ListenAsync(Process process, Action<string> died)
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
            _ = AnswerAsync(process, line.Split('|'));
        }

        if (!_isKilled && process == _process)
        {
            await process.WaitForExitAsync();
            died(string.Join(' ', errors));
        }
    }

    private async Task AnswerAsync(Process process, string[] words)
    {
        var answer = await handle(this, words[1..]);
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

    private void Signal(int signal)
    {
        if (_process is { } process && Kill(process.Id, signal) != 0)
        {
            throw new InvalidOperationException($"Signal {signal} could not be sent to {this}.");
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    internal static partial int Kill(int process, int signal);
}
