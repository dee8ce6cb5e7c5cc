using System.Collections.Immutable;
using System.Composition;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace DbLock;

/// <summary>Puts a held lock into a using.</summary>
[ExportCodeFixProvider(LanguageNames.CSharp), Shared]
public sealed class DisposeFix : CodeFixProvider
{
    /// <inheritdoc/>
    public override ImmutableArray<string> FixableDiagnosticIds { get; } = [Rules.NeverLetGo.Id];

    /// <inheritdoc/>
    public override FixAllProvider GetFixAllProvider() => WellKnownFixAllProviders.BatchFixer;

    /// <inheritdoc/>
    public override async Task RegisterCodeFixesAsync(CodeFixContext context)
    {
        var root = await context.Document.GetSyntaxRootAsync(context.CancellationToken).ConfigureAwait(false);
        var call = (root?.FindNode(context.Span, getInnermostNodeForTie: true) as ExpressionSyntax)?.Parent;
        while (call is ExpressionSyntax or EqualsValueClauseSyntax or VariableDeclaratorSyntax or VariableDeclarationSyntax)
        {
            call = call.Parent;
        }

        // A call that is not awaited has another mistake, which the compiler tells.
        var statement = call as StatementSyntax;
        var isAwaited = statement?.DescendantNodes().OfType<AwaitExpressionSyntax>().Any() == true;
        SyntaxNode? mended = statement switch
        {
            LocalDeclarationStatementSyntax local => local.WithUsingKeyword(SyntaxFactory.Token(SyntaxKind.UsingKeyword))
                .WithAwaitKeyword(isAwaited ? SyntaxFactory.Token(SyntaxKind.AwaitKeyword) : default).WithoutLeadingTrivia(),
            ExpressionStatementSyntax expression => SyntaxFactory.ParseStatement(
                $"{(isAwaited ? "await " : "")}using var held = {expression.Expression.ToFullString()};"),
            _ => null,
        };
        if (mended is not null)
        {
            context.RegisterCodeFix(
                CodeAction.Create(
                    "Dispose of the lock at the end of the block",
                    _ => Task.FromResult(context.Document.WithSyntaxRoot(root!.ReplaceNode(
                        statement!, mended.NormalizeWhitespace().WithTriviaFrom(statement!)))),
                    nameof(DisposeFix)),
                context.Diagnostics);
        }
    }
}
