using System.Diagnostics;
using System.Text;

namespace DbLock.PublishTests;

/// <summary>
/// A stranger's folder, outside of the checkout: it knows the usual source of packages and the folder of ours, and has caches of its own,
/// so that nothing stale is used. It goes with all that was put there.
/// </summary>
internal sealed class Workplace : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    public Workplace()
    {
        Folder = Directory.CreateTempSubdirectory("dblock-stranger-").FullName;
        Directory.CreateDirectory(Own("tmp"));
        File.WriteAllText(Path.Combine(Folder, "nuget.config"), $"""
            <configuration>
              <packageSources>
                <add key="DbLock" value="{Made.Packages}" />
              </packageSources>
            </configuration>
            """);
    }

    public string Folder { get; }

    /// <summary>Runs a program to its end and returns what it wrote.</summary>
    /// <exception cref="InvalidOperationException">It failed, or has not ended in five minutes.</exception>
    public async Task<string> RunAsync(string folder, string program, params string[] arguments)
    {
        using var process = Start(folder, program, arguments);
        var output = new StringBuilder();
        var reading = Task.WhenAll(ReadAsync(process.StandardOutput), ReadAsync(process.StandardError));
        using var limit = new CancellationTokenSource(Limit);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
        }

        await reading.WaitAsync(Limit);
        return process.ExitCode == 0
            ? output.ToString()
            : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)} ended with {process.ExitCode}:\n{output}");

        async Task ReadAsync(StreamReader reader)
        {
            while (await reader.ReadLineAsync() is { } line)
            {
                lock (output)
                {
                    output.AppendLine(line);
                }
            }
        }
    }

    /// <summary>Starts a program.</summary>
    public Process Start(string folder, string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var variable in start.Environment.Keys.Where(IsOfABuild).ToList())
        {
            start.Environment.Remove(variable);
        }

        foreach (var (variable, value) in Variables())
        {
            start.Environment[variable] = value;
        }

        return Process.Start(start)!;
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    private static bool IsOfABuild(string variable) =>
        variable.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase) || variable.StartsWith("DOTNET_HOST", StringComparison.Ordinal);

    private string Own(string name) => Path.Combine(Folder, ".own", name);

    private IEnumerable<(string Name, string Value)> Variables() =>
    [
        ("NUGET_PACKAGES", Own("packages")), ("DOTNET_CLI_HOME", Own("home")), ("TMPDIR", Own("tmp")),
        ("DOTNET_NOLOGO", "1"), ("DOTNET_CLI_TELEMETRY_OPTOUT", "1"), ("DOTNET_GENERATE_ASPNET_CERTIFICATE", "false"),

        // No compiler or build server stays behind.
        ("MSBUILDDISABLENODEREUSE", "1"), ("DOTNET_CLI_USE_MSBUILD_SERVER", "0"), ("UseSharedCompilation", "false"),
    ];
}
