using System.Diagnostics;

namespace Demo;

/// <summary>A worker, as the parent sees it.</summary>
internal sealed class WorkerProcess : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(8);

    private readonly Process _process;
    private readonly Task<string> _errors;
    private readonly Dictionary<string, Tally> _tallies = [];

    public WorkerProcess(string driver, string connectionString, string odbcConnectionString)
    {
        // Under `dotnet Demo.dll` the program is dotnet.
        var program = Environment.ProcessPath!;
        string[] assembly = Path.GetFileNameWithoutExtension(program) == "dotnet" ? [Environment.GetCommandLineArgs()[0]] : [];
        var start = new ProcessStartInfo(program, [.. assembly, "--worker", driver])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { [Drivers.NpgsqlVariable] = connectionString, [Drivers.OdbcVariable] = odbcConnectionString },
        };

        Driver = driver;
        _process = Process.Start(start)!;
        _errors = _process.StandardError.ReadToEndAsync();
    }

    public string Driver { get; }

    /// <summary>What the worker did when it carried out an order.</summary>
    public Tally Tally(string order) => _tallies.TryGetValue(order, out var tally) ? tally : _tallies[order] = new();

    /// <summary>Gives an order and listens until the worker has carried it out.</summary>
    /// <exception cref="InvalidOperationException">The worker failed; the message says which one and why.</exception>
    public async Task ObeyAsync(string order, TimeSpan time, CancellationToken cancellationToken)
    {
        var tally = Tally(order);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(time + Patience);
        Order($"{order} {time.TotalSeconds}");
        try
        {
            while (await ReadAsync(patience.Token) is var line && line != "end")
            {
                tally.Add(line);
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new InvalidOperationException($"the {Driver} worker did not end '{order}' within {(time + Patience).TotalSeconds} s.");
        }
    }

    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close(); // ends it
        await Task.WhenAny(_process.WaitForExitAsync(), Task.Delay(Patience));
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        _process.Dispose();
    }

    private void Order(string line)
    {
        try
        {
            _process.StandardInput.WriteLine(line);
        }
        catch (IOException)
        {
            // It has ended already; the reading that follows finds out why.
        }
    }

    private async Task<string> ReadAsync(CancellationToken cancellationToken)
    {
        var line = await _process.StandardOutput.ReadLineAsync(cancellationToken);
        if (line is null)
        {
            await _process.WaitForExitAsync(cancellationToken);
            var reason = (await _errors).Split('\n')[0];
            throw new InvalidOperationException($"the {Driver} worker ended with exit code {_process.ExitCode}. {reason}".TrimEnd());
        }

        return !line.StartsWith("failed ", StringComparison.Ordinal)
            ? line
            : throw new InvalidOperationException($"the {Driver} worker failed: {line["failed ".Length..]}");
    }
}
