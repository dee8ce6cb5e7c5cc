using System.Text.RegularExpressions;

namespace DbLock.Tests;

/// <summary>The documents: their code compiles, and their links lead somewhere.</summary>
public sealed partial class DocumentTests
{
    public static TheoryData<string> Documents =>
        ["README.md", "CONTRIBUTING.md", .. Directory.GetFiles(Path.Combine(Compiler.Repository, "docs"), "*.md").Select(path => "docs/" + Path.GetFileName(path))];

    [Theory, MemberData(nameof(Documents))]
    public async Task Code_blocks_compile(string document)
    {
        foreach (Match block in CSharpBlock().Matches(await ReadAsync(document)))
        {
            var lines = block.Groups[1].Value.Split('\n').Select(line => line.TrimEnd()).ToList();
            var usings = lines.Where(IsUsing).Union(["using DbLock;", "using Lock = DbLock.Lock;", "using System.Data.Common;"]);
            var code = string.Join('\n', lines.Where(line => !IsUsing(line)));

            // What the blocks take for granted.
            var given = new List<string>();
            foreach (var (name, declaration) in new[]
            {
                ("conn", "DbConnection conn = new Npgsql.NpgsqlConnection();"),
                ("connection", "DbConnection connection = new Npgsql.NpgsqlConnection();"),
                ("dataSource", "Npgsql.NpgsqlDataSource dataSource = null!;"),
                ("key", "LockKey key = \"key\";"),
                ("loggerFactory", "Microsoft.Extensions.Logging.ILoggerFactory loggerFactory = null!;"),
                ("cancellationToken", "CancellationToken cancellationToken = default;"),
            })
            {
                if (Regex.IsMatch(code, $@"\b{name}\b") && !Regex.IsMatch(code, $@"\b(var|\w*Connection) {name}\b"))
                {
                    given.Add(declaration);
                }
            }

            var errors = Compiler.Errors(string.Join('\n', [.. usings, .. given, code]));
            Assert.True(errors.Length == 0, $"{document}: {string.Join(" | ", errors)}\n{code}");
        }
    }

    [Theory, MemberData(nameof(Documents))]
    public async Task Links_lead_somewhere(string document)
    {
        var folder = Path.GetDirectoryName(Path.Combine(Compiler.Repository, document))!;
        foreach (Match link in Link().Matches(await ReadAsync(document)))
        {
            var target = link.Groups[1].Value.Split('#')[0];
            Assert.True(target.Length == 0 || target.StartsWith("https://", StringComparison.Ordinal) || Path.Exists(Path.Combine(folder, target)), $"{document}: {target}");
        }
    }

    private static bool IsUsing(string line) => UsingDirective().IsMatch(line);

    private static Task<string> ReadAsync(string document) => File.ReadAllTextAsync(Path.Combine(Compiler.Repository, document));

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    [GeneratedRegex(@"^using (\w+ = )?[\w.]+;")]
    private static partial Regex UsingDirective();

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();
}
