using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace DbLock.Tests;

/// <summary>Functions that PostgreSQL is asked for are named with their schema: a search_path that puts another's first runs that one, with our rights.</summary>
public sealed partial class QualifiedSqlTests
{
    // Words of the language, which no search_path changes, and those after which a list in brackets follows.
    private static readonly HashSet<string> Words = new(StringComparer.OrdinalIgnoreCase)
    {
        "and", "any", "all", "array", "as", "case", "cast", "coalesce", "conflict", "else", "except", "exists", "extract", "filter", "from", "greatest", "in", "into", "is", "key",
        "lateral", "least", "not", "nullif", "on", "or", "order", "over", "primary", "returning", "row", "select", "set", "some", "then", "union", "unique", "using", "values",
        "when", "where", "bit", "with", "by", "distinct", "join", "materialized", "within", "group", "ordinality",
    };

    // Other engines'; asked before the engine is known; shown to people.
    private static readonly string[] Exempt = ["MySqlDialect", "MySqlTexts", "MySqlHolders", "MySqlCarrier", "MySqlFencing", "SqlServerDialect", "SqlServerTexts", "SqlServerHolders", "SqlServerCarrier", "SqlServerFencing", "MySqlLeases", "SqlServerLeases", "SqliteLeases", "OdbcDriver", "KeyCommand", "MySqlExamination", "MySqlDatabase", "SqlServerExamination", "SqlServerDatabase", "SqliteExamination"];

    [Fact]
    public void Every_function_is_named_with_its_schema()
    {
        var texts = Directory.EnumerateFiles(Path.Combine(Compiler.Repository, "src"), "*.cs", SearchOption.AllDirectories)
            .Where(file => !Exempt.Contains(Path.GetFileNameWithoutExtension(file))).SelectMany(Texts).ToList();
        Assert.True(texts.Count(text => text.Sql.Contains("pg_catalog.", StringComparison.Ordinal)) > 50, "The texts are not found.");
        Assert.Equal("", string.Join('\n', texts.SelectMany(text => Unqualified(text.Sql).Select(function => $"{text.Place}: {function}"))));
    }

    [Theory]
    [InlineData("select count(*) from pg_catalog.pg_locks", "count")]
    [InlineData("select pg_catalog.count(*), coalesce(1, (2)) from t where a in (1)", "")]
    [InlineData("select now (), pg_catalog.f(now())", "now,now")]
    public void A_function_without_a_schema_is_found(string sql, string expected) => Assert.Equal(expected, string.Join(',', Unqualified(sql)));

    // What stands between quotes is a value or a name.
    private static IEnumerable<string> Unqualified(string sql) => Calls().Matches(Quoted().Replace(sql, "''")).Select(call => call.Groups["name"].Value).Where(name => !Words.Contains(name));

    private static IEnumerable<(string Place, string Sql)> Texts(string file)
    {
        foreach (var node in CSharpSyntaxTree.ParseText(File.ReadAllText(file)).GetRoot().DescendantNodes())
        {
            var sql = node switch
            {
                LiteralExpressionSyntax literal when literal.IsKind(SyntaxKind.StringLiteralExpression) => literal.Token.ValueText,

                // What is put in is read where it stands.
                InterpolatedStringExpressionSyntax text => string.Concat(text.Contents.Select(part => part is InterpolatedStringTextSyntax plain ? plain.TextToken.ValueText : "?")),
                _ => "",
            };
            if (Statement().IsMatch(sql))
            {
                yield return ($"{Path.GetFileName(file)}:{node.GetLocation().GetLineSpan().StartLinePosition.Line + 1}", sql);
            }
        }
    }

    [GeneratedRegex(@"(?<![.\w""?]|\bas )(?<name>[A-Za-z_]\w*)\s*\(", RegexOptions.ExplicitCapture)]
    private static partial Regex Calls();

    [GeneratedRegex("'[^']*'")]
    private static partial Regex Quoted();

    [GeneratedRegex(@"pg_catalog\.|\bselect\b.*\bfrom\b|^\s*(select|insert into|update|delete from|with) ", RegexOptions.Singleline)]
    private static partial Regex Statement();
}
