using System.IO.Compression;
using System.Text.RegularExpressions;

namespace DbLock.PublishTests;

/// <summary>What the page of a package tells a stranger to do, read out of the package.</summary>
internal sealed partial record PackageReadme(string[] Commands, string[] NextCommands, string Example)
{
    public static PackageReadme Of(string package)
    {
        var file = Directory.GetFiles(Made.Packages, "*.nupkg").Single(path => FileName(package).IsMatch(Path.GetFileName(path)));
        using var archive = ZipFile.OpenRead(file);
        using var reader = new StreamReader(archive.GetEntry("README.md")!.Open());
        var text = reader.ReadToEnd();
        var blocks = Block().Matches(text).Select(block => (Language: block.Groups[1].Value, Text: block.Groups[2].Value)).ToList();
        var commands = blocks.Where(block => block.Language == "sh").Select(block => block.Text.Split('\n', StringSplitOptions.RemoveEmptyEntries)).ToList();
        return new(commands[0], commands.ElementAtOrDefault(1) ?? [], blocks.FirstOrDefault(block => block.Language == "csharp").Text);
    }

    // Not DbLock.Npgsql for DbLock.
    private static Regex FileName(string package) => new($@"^{Regex.Escape(package)}\.\d");

    [GeneratedRegex(@"```(\w+)\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Block();
}
