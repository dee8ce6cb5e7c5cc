using System.Text.Json;

namespace DbLock.Cli;

/// <summary>Sets of options that are saved under a name in <c>dblock.json</c>, and stand in for <c>--filter NAME</c>.</summary>
/// <remarks>
/// <code>{ "filters": { "stale": { "blocking": true, "state": ["idle in transaction"], "min-transaction-age": "1m" } } }</code>
/// </remarks>
internal static class SavedOptions
{
    private const string FileName = "dblock.json";

    /// <summary>
    /// Replaces <c>--filter NAME</c> by the options that are saved under this name, but for those that the command line gives, too.
    /// </summary>
    public static string[] Expand(string[] args)
    {
        // dblock run has no filters, and its -f may be the command's.
        if (args.Length == 0 || args[0] == "run")
        {
            return args;
        }

        var (names, given) = (new List<string>(), new List<string>());
        for (var i = 0; i < args.Length; i++)
        {
            switch (args[i])
            {
                case "--filter" or "-f" when i + 1 < args.Length:
                    names.Add(args[++i]);
                    break;
                case ['-', '-', 'f', 'i', 'l', 't', 'e', 'r', '=' or ':', .. var name]:
                    names.Add(name);
                    break;
                case ['-', 'f', not '-', ..]:
                    names.Add(args[i][2..].TrimStart('=', ':'));
                    break;
                default:
                    given.Add(args[i]);
                    break;
            }
        }

        return [given[0], .. names.SelectMany(name => Read(name, given)), .. given[1..]];
    }

    private static List<string> Read(string name, List<string> given)
    {
        var path = "";
        try
        {
            path = Find() ?? throw new UsageException(
                $"--filter {name}: there is no {FileName} in this folder or above it, nor in the configuration folder; $DBLOCK_CONFIG "
                + "names another");
            var asWritten = new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true };
            using var json = JsonDocument.Parse(File.ReadAllText(path), asWritten);
            if (!json.RootElement.TryGetProperty("filters", out var filters) || !filters.TryGetProperty(name, out var saved))
            {
                throw new UsageException($"--filter {name}: {path} has no such filter under \"filters\"");
            }

            var options = new List<string>();
            foreach (var option in saved.EnumerateObject())
            {
                // The file may be somebody else's, and so it may not say what is done, nor on which database.
                var aliases = FilterOptions.AliasesOf($"--{option.Name}")
                    ?? throw new UsageException(
                        $"--filter {name}: {path} has \"{option.Name}\" in it, and only options that filter can be saved");
                if (!given.Any(arg => aliases.Any(alias => IsGiven(arg, alias))))
                {
                    var values = option.Value.ValueKind == JsonValueKind.Array ? option.Value.EnumerateArray().ToList() : [option.Value];
                    options.AddRange(values.Where(value => value.ValueKind != JsonValueKind.False).Select(value => value.ValueKind switch
                    {
                        JsonValueKind.True => $"--{option.Name}",
                        JsonValueKind.String => $"--{option.Name}={value.GetString()}",
                        JsonValueKind.Number => $"--{option.Name}={value.GetRawText()}",
                        _ => throw new UsageException(
                            $"--filter {name}: {path} has a value for \"{option.Name}\" that is no text, number or truth"),
                    }));
                }
            }

            return options;
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            throw new UsageException($"{(path.Length == 0 ? FileName : path)} cannot be read as saved filters: {e.Message}");
        }
    }

    private static bool IsGiven(string arg, string alias) =>
        arg == alias || arg.StartsWith(alias + "=", StringComparison.Ordinal) || arg.StartsWith(alias + ":", StringComparison.Ordinal)
        || (alias.Length == 2 && arg.StartsWith(alias, StringComparison.Ordinal));

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
