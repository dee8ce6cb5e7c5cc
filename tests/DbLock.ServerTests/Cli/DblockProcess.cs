using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace DbLock.ServerTests.Cli;

/// <summary>The real program, started with pipes or in a terminal.</summary>
internal sealed class DblockProcess : IAsyncDisposable
{
    // A shell that starts the tests in the background has them, and what they start, ignore what Ctrl-C sends.
    private const string DefaultSignals = "--default-signal=INT,QUIT,HUP";

    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _error = new();
    private readonly Task _reading;

    private DblockProcess(ProcessStartInfo start)
    {
        start.UseShellExecute = false;
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        _process = Process.Start(start)!;
        _reading = Task.WhenAll(ReadAsync(_process.StandardOutput, _output), ReadAsync(_process.StandardError, _error));
    }

    /// <summary>Gets the published file that DBLOCK_TEST_CLI names, or else what was built with the tests.</summary>
    public static string Program => Environment.GetEnvironmentVariable("DBLOCK_TEST_CLI") is { Length: > 0 } published ? published : BuiltPrograms.Path("DbLock.Cli", "dblock");

    /// <summary>Gets whether it is one file, which has not all engines.</summary>
    public static bool IsOneFile => Environment.GetEnvironmentVariable("DBLOCK_TEST_CLI") is { Length: > 0 };

    public int Pid => _process.Id;

    public string Output => Text(_output);

    public string Error => Text(_error);

    public static async Task<DblockProcess> StartAsync(params string[] arguments) => Start(await EnvironmentAsync(), arguments);

    public static DblockProcess Start(IEnumerable<(string, string?)> environment, params string[] arguments) =>
        new(Prepare("env", environment, [DefaultSignals, Program, .. arguments]));

    /// <summary>Starts it in a pseudo-terminal of 80 columns and 24 lines, of which its input and output are the keyboard and the screen.</summary>
    public static Task<DblockProcess> StartInTerminalAsync(params string[] arguments) =>
        InTerminalAsync(string.Join(' ', arguments.Prepend(Program).Select(word => $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'")));

    /// <summary>Starts a command in such a terminal: dblock, or a shell for it.</summary>
    public static async Task<DblockProcess> InTerminalAsync(string command)
    {
        // Not under a shell, which would end with its own interrupt.
        var line = $"stty cols 80 rows 24; exec env {DefaultSignals} {command}";
        return new(Prepare("script", [.. await EnvironmentAsync(), ("TERM", "xterm-256color"), ("SHELL", "/bin/sh")], ["--quiet", "--return", "--flush", "--command", line, "/dev/null"]));
    }

    /// <summary>Runs it to its end.</summary>
    public static async Task<(int ExitCode, string Output, string Error)> RunAsync(params string[] arguments) => await RunAsync(await EnvironmentAsync(), arguments);

    public static async Task<(int ExitCode, string Output, string Error)> RunAsync(IEnumerable<(string, string?)> environment, params string[] arguments)
    {
        await using var dblock = Start(environment, arguments);
        dblock.CloseInput();
        return (await dblock.ExitAsync(), dblock.Output, WithoutWaits(dblock.Error));
    }

    /// <summary>Runs a script of the shell to its end.</summary>
    public static async Task<(string Output, string Error)> ShellAsync(string script)
    {
        await using var shell = new DblockProcess(Prepare("env", await EnvironmentAsync(), [DefaultSignals, "sh", "-c", script]));
        shell.CloseInput();
        await shell.ExitAsync();
        return (shell.Output, WithoutWaits(shell.Error));
    }

    public static async Task<(string, string?)[]> EnvironmentAsync() => [("DBLOCK_CONNECTION", (await PostgreSqlTestServer.ServerAsync).ConnectionString)];

    public async Task TypeAsync(string text)
    {
        await _process.StandardInput.WriteAsync(text);
        await _process.StandardInput.FlushAsync();
    }

    public void CloseInput() => _process.StandardInput.Close();

    public async Task UntilAsync(string text)
    {
        for (var clock = Stopwatch.StartNew(); !Says(text); await Task.Delay(1))
        {
            Assert.True(
                clock.Elapsed < TimeSpan.FromSeconds(60) && (!_reading.IsCompleted || Says(text)),
                $"It does not say '{text}'. It {(_reading.IsCompleted ? "has ended" : "runs")}, and said: {Output} {Error}");
        }
    }

    /// <summary>Sends a signal by its name.</summary>
    public async Task SignalAsync(string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", Pid.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
    }

    public async Task<int> ExitAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        try
        {
            await _process.WaitForExitAsync(limit.Token);
            await _reading.WaitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"{(_process.HasExited ? "What it started" : "It")} does not end. It said: {Output} {Error}");
        }

        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    // One character is the end of what the command prints; on a busy machine dblock may say meanwhile that it waits.
    private bool Says(string text) =>
        Output.Contains(text, StringComparison.Ordinal) || (text.Length > 1 && Error.Contains(text, StringComparison.Ordinal));

    // Where the machine is busy, the answer for a free lock may take so long that this is said.
    private static string WithoutWaits(string error) => Regex.Replace(error, @"^dblock: still waiting for .* \([1-9]\d* s so far\)\n", "", RegexOptions.Multiline);

    private static ProcessStartInfo Prepare(string program, IEnumerable<(string, string?)> environment, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments);
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("PG", StringComparison.Ordinal) || name.StartsWith("DBLOCK_", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return start;
    }

    private static async Task ReadAsync(StreamReader reader, StringBuilder text)
    {
        var buffer = new char[4096];
        while (await reader.ReadAsync(buffer) is var count and > 0)
        {
            lock (text)
            {
                text.Append(buffer, 0, count);
            }
        }
    }

    private static string Text(StringBuilder text)
    {
        lock (text)
        {
            return text.ToString();
        }
    }
}
