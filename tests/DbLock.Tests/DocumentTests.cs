using System.Text.RegularExpressions;

namespace DbLock.Tests;

/// <summary>The documents, and the pages of the packages: their code compiles, and their links lead somewhere.</summary>
public sealed partial class DocumentTests
{
    public static TheoryData<string> Documents =>
    [
        .. Directory.GetFiles(Compiler.Repository, "*.md")
            .Concat(Directory.GetFiles(Path.Combine(Compiler.Repository, "docs"), "*.md"))
            .Concat(Directory.GetDirectories(Path.Combine(Compiler.Repository, "src")).Select(folder => Path.Combine(folder, "README.md")))
            .Select(path => Path.GetRelativePath(Compiler.Repository, path)),
    ];

    /// <summary>
    /// A block that begins with its usings is pasted into the Program.cs of a new project, as it stands, and the first of each page does.
    /// It has no mistakes with locks either. Any other goes on where the first one of its page has opened its connection: after all its paragraphs but the last.
    /// </summary>
    [Theory, MemberData(nameof(Documents))]
    public async Task Code_blocks_compile(string document)
    {
        var opening = "";
        foreach (var block in (await CodeOf(document)).Select((code, index) => (Code: code, IsFirst: index == 0)))
        {
            var isWhole = block.Code.StartsWith("using ", StringComparison.Ordinal);
            Assert.True(isWhole || !block.IsFirst, $"{document}: the first example is not whole.");
            var program = isWhole ? block.Code : opening + block.Code;
            if (block.IsFirst)
            {
                opening = block.Code[..(block.Code.LastIndexOf("\n\n", StringComparison.Ordinal) + 2)];
            }

            var isWeb = program.Contains("WebApplication", StringComparison.Ordinal);
            string[] errors = [.. Compiler.Errors(program, isWeb), .. await Compiler.MistakesAsync(program, isWeb)];
            // A class alone is for a library.
            errors = [.. errors.Where(error => !error.StartsWith("CS5001", StringComparison.Ordinal))];
            Assert.True(errors.Length == 0, $"{document}: {string.Join(" | ", errors)}\n{program}");
        }
    }

    [Fact]
    public async Task The_first_example_is_that_of_the_package() =>
        Assert.Equal((await CodeOf("src/DbLock/README.md"))[0], (await CodeOf("README.md"))[0]);

    [Fact]
    public async Task Each_error_of_the_questions_is_one_that_the_sources_have()
    {
        var sources = string.Concat(Directory.GetFiles(Path.Combine(Compiler.Repository, "src"), "*.cs", SearchOption.AllDirectories).Select(File.ReadAllText));
        var texts = JoinedLiterals().Replace(sources, "");
        var headings = QuotedHeading().Matches(await ReadAsync("docs/questions.md"));
        Assert.NotEmpty(headings);
        Assert.All(headings, heading => Assert.Contains(heading.Groups[1].Value, texts, StringComparison.Ordinal));
    }

    [Theory, MemberData(nameof(Documents))]
    public async Task Links_lead_somewhere(string document)
    {
        var folder = Path.GetDirectoryName(Path.Combine(Compiler.Repository, document))!;
        foreach (Match link in Link().Matches(await ReadAsync(document)))
        {
            var target = link.Groups[1].Value.Split('#');
            if (target[0].StartsWith("https://", StringComparison.Ordinal))
            {
                continue;
            }

            var path = target[0].Length == 0 ? document : Path.GetRelativePath(Compiler.Repository, Path.Combine(folder, target[0]));
            Assert.True(Path.Exists(Path.Combine(Compiler.Repository, path)), $"{document}: {link.Groups[1].Value}");
            Assert.True(target.Length == 1 || (await AnchorsOf(path)).Contains(target[1]), $"{document}: no heading for {link.Groups[1].Value}");
        }
    }

    // As GitHub and docfx make them of headings.
    private static async Task<HashSet<string>> AnchorsOf(string document) =>
    [
        .. Heading().Matches(await ReadAsync(document))
            .Select(heading => NoAnchor().Replace(heading.Groups[1].Value.ToLowerInvariant(), "").Replace(' ', '-')),
    ];

    private static async Task<List<string>> CodeOf(string document) =>
        [.. CSharpBlock().Matches(await ReadAsync(document)).Select(block => block.Groups[1].Value)];

    private static Task<string> ReadAsync(string document) => File.ReadAllTextAsync(Path.Combine(Compiler.Repository, document));

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    [GeneratedRegex("^#+ (.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex("^#+ \"(.*)\"$", RegexOptions.Multiline)]
    private static partial Regex QuotedHeading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NoAnchor();

    [GeneratedRegex("\"\\s*\\+ \\$?\"")]
    private static partial Regex JoinedLiterals();

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();
}
