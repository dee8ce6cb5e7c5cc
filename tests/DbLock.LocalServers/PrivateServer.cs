using System.Diagnostics;
using System.Security.Cryptography;

namespace DbLock.LocalServers;

/// <summary>A server of our own: in a folder that only it can read, on a free loopback port, gone when we are.</summary>
internal sealed class PrivateServer : IAsyncDisposable
{
    private const int Ports = 5;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Watchdog _watchdog;

    private PrivateServer(Watchdog watchdog)
    {
        _watchdog = watchdog;
    }

    /// <summary>The words that the folders' names have.</summary>
    public static IReadOnlyList<string> Kinds { get; } = ["postgresql", "mariadb", "pgbouncer"];

    public string Folder => _watchdog.Folder;

    /// <summary>The port that it listens on; 0 before the start.</summary>
    public int Port { get; private set; }

    /// <summary>Makes the folder, and prepares it; the server does not run yet.</summary>
    /// <param name="kind">One of <see cref="Kinds"/>.</param>
    /// <param name="stopSignal">The signal that ends the server at once; its data are thrown away.</param>
    /// <param name="command">The server's command, given the folder.</param>
    /// <param name="prepare">What has to be done in the folder before the first start.</param>
    public static async Task<PrivateServer> CreateAsync(
        string kind, string stopSignal, Func<string, IEnumerable<string>> command, Func<PrivateServer, Task> prepare)
    {
        await Leftovers.RemoveOnceAsync();
        var folder = $"/tmp/dblock-{kind}-{NewPassword()[..12]}";
        var server = new PrivateServer(await Watchdog.StartAsync(folder, stopSignal, command(folder)));
        try
        {
            await prepare(server);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    public static string NewPassword() => RandomNumberGenerator.GetHexString(32, lowercase: true);

    /// <summary>Starts the server on a free port, on another when something else was faster; disposes it when it fails.</summary>
    /// <param name="configure">Writes the configuration, which has the <see cref="Port"/>.</param>
    /// <param name="isReady">Whether this server, not another one, answers.</param>
    public async Task StartAsync(Action configure, Func<Task<bool>> isReady)
    {
        try
        {
            for (var left = Ports; ; left--)
            {
                Port = FreePort.Next();
                configure();
                if (await TryStartAsync(isReady))
                {
                    return;
                }

                if (left == 1 || !ReadLog().Contains("Address already in use", StringComparison.OrdinalIgnoreCase))
                {
                    throw NotStarted();
                }
            }
        }
        catch
        {
            await DisposeAsync();
            throw;
        }
    }

    /// <summary>Stops the server with the signal and starts it again, on the same port.</summary>
    public async Task RestartAsync(string signal, Func<Task<bool>> isReady)
    {
        await StopAsync(signal);
        await StartAgainAsync(isReady);
    }

    /// <summary>Stops the server with the signal. Its folder stays.</summary>
    public Task StopAsync(string signal) => _watchdog.StopServerAsync(signal);

    /// <summary>Starts a server that was stopped, on the same port.</summary>
    public async Task StartAgainAsync(Func<Task<bool>> isReady)
    {
        if (!await TryStartAsync(isReady))
        {
            throw NotStarted();
        }
    }

    /// <summary>Runs a program in the folder, as the server's user, and gives its output.</summary>
    public Task<string> RunAsync(params IEnumerable<string> command) => Programs.RunAsync(ServerUser.Command(command), Folder);

    /// <summary>Writes a file into the folder, which the server's user can read.</summary>
    /// <returns>Its path.</returns>
    public string Write(string name, string text)
    {
        var path = Path.Combine(Folder, name);
        File.WriteAllText(path, text);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherRead);
        }

        return path;
    }

    /// <summary>Reads what the server has written to its log.</summary>
    public string ReadLog()
    {
        var log = Path.Combine(Folder, "server.log");
        return File.Exists(log) ? File.ReadAllText(log) : "";
    }

    public ValueTask DisposeAsync() => _watchdog.DisposeAsync();

    private async Task<bool> TryStartAsync(Func<Task<bool>> isReady)
    {
        var process = await _watchdog.StartServerAsync();
        try
        {
            // A server may let a client in and then say nothing.
            for (var started = Stopwatch.StartNew(); IsRunning(process) && started.Elapsed < Patience;)
            {
                if (await isReady().WaitAsync(Patience))
                {
                    return true;
                }

                await Task.Delay(20);
            }
        }
        catch (TimeoutException)
        {
            // It is not ready.
        }

        await _watchdog.StopServerAsync("KILL");
        return false;
    }

    // Until its watchdog waits for it, a server that has ended is a zombie.
    private static bool IsRunning(string process) => !File.ReadAllText($"/proc/{process}/stat").Contains(") Z ", StringComparison.Ordinal);

    private InvalidOperationException NotStarted() =>
        new($"The server in {Folder} did not start on port {Port}. The end of its log:\n"
            + string.Join('\n', ReadLog().Split('\n').TakeLast(30)));
}
