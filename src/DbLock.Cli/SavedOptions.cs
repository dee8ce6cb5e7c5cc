using System.Text.Json;

namespace DbLock.Cli;

/// <summary>Sets of options that are saved under a name in <c>dblock.json</c>, and stand in for <c>--filter NAME</c>.</summary>
/// <remarks><code>{ "filters": { "stale": { "blocking": true, "state": ["idle in transaction"], "min-transaction-age": "1m" } } }</code></remarks>
internal static class SavedOptions
{
    private const string FileName = "dblock.json";

    /// <summary>Puts saved options where they are asked for. An option that is given on the command line as well is taken from there.</summary>
    public static string[] Expand(string[] args)
    {
        var end = Array.IndexOf(args, "--") is var dashes and >= 0 ? dashes : args.Length;
        var at = Array.FindIndex(args, 0, end, arg => arg is "--filter" or "-f");

        // dblock run has no filters, and knows better what -f is.
        if (at < 0 || at + 1 >= end || args[0] is "run")
        {
            return args;
        }

        var name = args[at + 1];
        string[] given = [.. args[..at], .. args[(at + 2)..]];
        return [.. given[..Math.Min(given.Length, 1)], .. Read(name, given), .. given[Math.Min(given.Length, 1)..]];
    }

    private static List<string> Read(string name, string[] given)
    {
        var path = Find() ?? throw new UsageException($"--filter {name}: there is no {FileName} in this folder or above it, nor in the configuration folder; $DBLOCK_CONFIG names another");
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path), new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            if (!json.RootElement.TryGetProperty("filters", out var filters) || !filters.TryGetProperty(name, out var saved))
            {
                throw new UsageException($"--filter {name}: {path} has no such filter under \"filters\"");
            }

            var options = new List<string>();
            foreach (var option in saved.EnumerateObject().Where(option => !given.Any(arg => arg == $"--{option.Name}" || arg.StartsWith($"--{option.Name}=", StringComparison.Ordinal))))
            {
                foreach (var value in option.Value.ValueKind == JsonValueKind.Array ? option.Value.EnumerateArray() : Enumerable.Repeat(option.Value, 1))
                {
                    switch (value.ValueKind)
                    {
                        case JsonValueKind.True:
                            options.Add($"--{option.Name}");
                            break;
                        case JsonValueKind.False:
                            break;
                        case JsonValueKind.String:
                            options.AddRange([$"--{option.Name}", value.GetString()!]);
                            break;
                        default:
                            options.AddRange([$"--{option.Name}", value.GetRawText()]);
                            break;
                    }
                }
            }

            return options;
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            throw new UsageException($"{path} cannot be read as saved filters: {e.Message}");
        }
    }

    private static string? Find()
    {
        if (Environment.GetEnvironmentVariable("DBLOCK_CONFIG") is { Length: > 0 } named)
        {
            return named;
        }

        for (var folder = new DirectoryInfo(Directory.GetCurrentDirectory()); folder is not null; folder = folder.Parent)
        {
            if (Path.Combine(folder.FullName, FileName) is var file && File.Exists(file))
            {
                return file;
            }
        }

        var configuration = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ApplicationData), "dblock", FileName);
        return File.Exists(configuration) ? configuration : null;
    }
}
