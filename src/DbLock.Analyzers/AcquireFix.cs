using System.Collections.Immutable;
using System.Composition;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace DbLock;

/// <summary>Acquires a lock after the declaration that makes it.</summary>
[ExportCodeFixProvider(LanguageNames.CSharp), Shared]
public sealed class AcquireFix : CodeFixProvider
{
    /// <inheritdoc/>
    public override ImmutableArray<string> FixableDiagnosticIds { get; } = [Rules.NeverAcquired.Id];

    /// <inheritdoc/>
    public override FixAllProvider GetFixAllProvider() => WellKnownFixAllProviders.BatchFixer;

    /// <inheritdoc/>
    public override async Task RegisterCodeFixesAsync(CodeFixContext context)
    {
        var root = await context.Document.GetSyntaxRootAsync(context.CancellationToken).ConfigureAwait(false);
        if (root?.FindNode(context.Span).FirstAncestorOrSelf<LocalDeclarationStatementSyntax>() is not { } declaration)
        {
            return;
        }

        var name = declaration.Declaration.Variables[0].Identifier.Text;
        var acquire = SyntaxFactory.ParseStatement(
            declaration.AwaitKeyword.IsKind(SyntaxKind.AwaitKeyword) ? $"await {name}.AcquireAsync();" : $"{name}.Acquire();");
        context.RegisterCodeFix(
            CodeAction.Create("Wait for the lock", _ => Task.FromResult(context.Document.WithSyntaxRoot(Insert())), nameof(AcquireFix)),
            context.Diagnostics);

        SyntaxNode Insert()
        {
            var trivia = acquire.WithLeadingTrivia(declaration.GetLeadingTrivia().Where(one => one.IsKind(SyntaxKind.WhitespaceTrivia)))
                .WithTrailingTrivia(SyntaxFactory.ElasticLineFeed);
            return declaration.Parent is GlobalStatementSyntax global
                ? root.InsertNodesAfter(global, [SyntaxFactory.GlobalStatement(trivia)])
                : root.InsertNodesAfter(declaration, [trivia]);
        }
    }
}
