using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace DbLock.Tests;

/// <summary>The state of the house: what must not get worse, and is told when it got better, so that it goes one way.</summary>
public sealed partial class HouseTests
{
    // So many there are. The goal is 0 of each.
    private const int TypeCircles = 0;
    private const int TypesInCircles = 0;
    private const int NamesOutsideTheirRooms = 0;
    private const int LongLines = 0;
    private const int LongFiles = 0;

    // The name of a Python library whose numbers DbLock makes, as KeyScheme.DjangoPglock is one: no engine is meant, and no other word
    // would tell its users which scheme it is.
    private const string LibraryOfKeys = nameof(KeyScheme.PostgresqlLock);

    private const int LongestLine = 140;
    private const int LongestFile = 400;

    private static readonly string Source = Path.Combine(Compiler.Repository, "src");

    private static readonly (string Path, string Text)[] Files = FilesOf(Source);

    /// <summary>
    /// Types none of which can be understood, or changed, without the others: each names another in its code, round in a circle. A type
    /// counts with its nested ones; comments and documentation do not count.
    /// </summary>
    [Fact]
    public void Circles_of_types_in_the_core()
    {
        var core = Compiler.Library(Files.Where(file => IsCore(file.Path)).Select(file => file.Text).Append("global using DbLock.Drivers;"));
        var edges = new Dictionary<string, HashSet<string>>();
        foreach (var model in core.SyntaxTrees.Select(tree => core.GetSemanticModel(tree)))
        {
            foreach (var name in model.SyntaxTree.GetRoot().DescendantNodes().OfType<SimpleNameSyntax>())
            {
                var from = name.Ancestors().OfType<BaseTypeDeclarationSyntax>().LastOrDefault();
                if (from is not null && Outermost(model.GetSymbolInfo(name).Symbol) is { } to)
                {
                    var names = edges.TryGetValue(from.Identifier.Text, out var found) ? found : edges[from.Identifier.Text] = [];
                    names.Add(to.Name);
                }
            }
        }

        // Else nothing was understood.
        Assert.Contains(nameof(LockKey), edges[nameof(Lock)]);
        List<List<string>> circles = [.. Circles(edges)];
        var types = circles.SelectMany(circle => circle.Select(type => ($"Of {circle[0]}", type)));
        HoldAt(TypesInCircles, "types in circles in the core", types);
        HoldAt(TypeCircles, "circles of types in the core", circles.Select(circle => (circle[0], string.Join(", ", circle))));

        INamedTypeSymbol? Outermost(ISymbol? symbol)
        {
            var type = symbol as INamedTypeSymbol ?? symbol?.ContainingType;
            while (type?.ContainingType is { } outer)
            {
                type = outer;
            }

            return SymbolEqualityComparer.Default.Equals(type?.ContainingAssembly, core.Assembly) ? type : null;
        }
    }

    /// <summary>An engine or a provider is named in the code of a file that is its own, or in a folder that is.</summary>
    [Fact]
    public void Names_of_engines_and_providers_in_the_core_outside_their_rooms() => HoldAt(
        NamesOutsideTheirRooms,
        "names of engines and providers in the core outside their rooms",
        NamesOfEnginesAndProviders(Files.Where(file => IsCore(file.Path) && !Room().IsMatch(file.Path))));

    /// <summary>What every driver is held to knows no engine, so that it is of use to the authors of others.</summary>
    [Fact]
    public void Names_of_engines_and_providers_in_the_specification() => HoldAt(
        0,
        "names of engines and providers in the specification",
        NamesOfEnginesAndProviders(FilesOf(Path.Combine(Compiler.Repository, "tests", "DbLock.Specification"))));

    [Fact]
    public void Lines_of_the_sources_that_are_too_long() => HoldAt(
        LongLines,
        $"lines of src over {LongestLine} columns",
        from file in Files
        from line in file.Text.Split('\n').Select((text, index) => (Length: text.TrimEnd().Length, Number: index + 1))
        where line.Length > LongestLine
        select (file.Path, $"{line.Number}"));

    [Fact]
    public void Files_of_the_sources_that_are_too_long() => HoldAt(
        LongFiles,
        $"files of src over {LongestFile} lines",
        from file in Files
        let lines = file.Text.Count(character => character == '\n')
        where lines > LongestFile
        select (file.Path, $"{lines} lines"));

    private static (string Path, string Text)[] FilesOf(string folder) =>
    [
        .. Directory.GetFiles(folder, "*.cs", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
            .Select(path => (Path.GetRelativePath(folder, path), File.ReadAllText(path))),
    ];

    private static IEnumerable<(string Path, string Name)> NamesOfEnginesAndProviders(IEnumerable<(string Path, string Text)> files) =>
        from file in files
        from token in CSharpSyntaxTree.ParseText(file.Text).GetRoot().DescendantTokens()
        where token.IsKind(SyntaxKind.IdentifierToken) && token.ValueText != LibraryOfKeys && EngineOrProvider().IsMatch(token.ValueText)
        select (file.Path, $"{token.GetLocation().GetLineSpan().StartLinePosition.Line + 1} {token.ValueText}");

    private static bool IsCore(string path) => path.StartsWith("DbLock.Abstractions", StringComparison.Ordinal);

    // What became better is kept: that there are fewer than the number says fails, too.
    private static void HoldAt(int most, string what, IEnumerable<(string Place, string Found)> found)
    {
        var places = found.GroupBy(one => one.Place, one => one.Found).ToList();
        var now = places.Sum(place => place.Count());
        Assert.True(
            now == most,
            $"There are now {now} {what}, and at most {most} are allowed: "
            + (now < most ? $"lower the ratchet in HouseTests.cs to {now}" : "mend what is new")
            + $".\n{string.Join('\n', places.Select(place => $"{place.Key}: {string.Join(", ", place)}"))}");
    }

    // Types that lead to each other.
    private static IEnumerable<List<string>> Circles(Dictionary<string, HashSet<string>> edges)
    {
        var reached = edges.Keys.ToDictionary(from => from, Reached);
        return from type in edges.Keys
               let leadBack = reached[type].Where(other => reached.GetValueOrDefault(other, []).Contains(type))
               let circle = leadBack.Order(StringComparer.Ordinal).ToList()
               where circle.Count > 1 && circle[0] == type
               orderby type
               select circle;

        HashSet<string> Reached(string from)
        {
            HashSet<string> reached = [];
            Stack<string> open = new([from]);
            while (open.TryPop(out var next))
            {
                foreach (var to in edges.GetValueOrDefault(next, []).Where(reached.Add))
                {
                    open.Push(to);
                }
            }

            return reached;
        }
    }

    [GeneratedRegex("Npgsql|Postgres|SqlServer|MySql|MariaDb|Odbc|Dapper|Sqlite|Galera|PgBouncer|^Pg(?-i:[A-Z])", RegexOptions.IgnoreCase)]
    private static partial Regex EngineOrProvider();

    [GeneratedRegex(@"[/\\](PostgreSql|MySql|SqlServer|Sqlite|MariaDb|Npgsql|Odbc|Dialects\.cs|Pg[A-Z])")]
    private static partial Regex Room();
}
