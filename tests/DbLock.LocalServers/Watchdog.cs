using System.Collections.Concurrent;
using System.Diagnostics;

namespace DbLock.LocalServers;

/// <summary>
/// The other process that owns a server and its folder, and outlives us just long enough to remove both, however we end.
/// </summary>
/// <remarks>
/// What ties it to us is the pipe that is its input: the kernel closes our end when we die. .NET opens the pipe with
/// O_CLOEXEC, so no other child of ours keeps it open. It has its own session, so that a Ctrl-C at the terminal reaches us alone.
/// </remarks>
internal sealed class Watchdog : IAsyncDisposable
{
    // A server that nobody disposes lives as long as we do, not until the garbage collector closes its pipe.
    private static readonly ConcurrentDictionary<Watchdog, bool> Living = new();
    private static readonly Lazy<string> Script = new(ReadScript);

    private readonly Process _process;

    private Watchdog(string folder, Process process)
    {
        Folder = folder;
        _process = process;
    }

    public string Folder { get; }

    /// <summary>Makes the folder, or takes over one that is there.</summary>
    public static async Task<Watchdog> StartAsync(string folder, string stopSignal, IEnumerable<string> serverCommand)
    {
        var start = new ProcessStartInfo("setsid", ["sh", "-c", Script.Value, "dblock-watchdog", folder, ServerUser.Id, stopSignal,
            .. ServerUser.Command(serverCommand)])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            WorkingDirectory = "/",
        };
        start.Environment["LC_ALL"] = "C";
        var watchdog = new Watchdog(folder, Process.Start(start)!);
        Living[watchdog] = true;
        try
        {
            await watchdog.ReadAsync("ready");
            return watchdog;
        }
        catch
        {
            await watchdog.DisposeAsync();
            throw;
        }
    }

    /// <summary>Whether the folder has a watchdog that lives.</summary>
    public static bool Owns(string folder)
    {
        try
        {
            var id = File.ReadAllText(Path.Combine(folder, "watchdog.pid")).Trim();
            return File.ReadAllText($"/proc/{id}/cmdline").Split('\0').Contains(folder);
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Starts the server and gives its process id.</summary>
    public async Task<string> StartServerAsync()
    {
        await _process.StandardInput.WriteLineAsync("start");
        return await ReadAsync("started");
    }

    /// <summary>Stops the server and waits for its end; SIGKILL after ten seconds.</summary>
    public async Task StopServerAsync(string signal)
    {
        await _process.StandardInput.WriteLineAsync($"stop {signal}");
        await ReadAsync("stopped");
    }

    public async ValueTask DisposeAsync()
    {
        if (Living.TryRemove(this, out _))
        {
            _process.StandardInput.Close();
            await _process.WaitForExitAsync();
            _process.Dispose();
        }
    }

    private async Task<string> ReadAsync(string expected)
    {
        var line = await _process.StandardOutput.ReadLineAsync();
        return line?.StartsWith(expected, StringComparison.Ordinal) == true
            ? line[expected.Length..].Trim()
            : throw new InvalidOperationException($"The watchdog of {Folder} said '{line ?? "nothing"}' instead of '{expected}'.");
    }

    private static string ReadScript()
    {
        using var reader = new StreamReader(typeof(Watchdog).Assembly.GetManifestResourceStream("watchdog.sh")!);
        return reader.ReadToEnd();
    }
}
