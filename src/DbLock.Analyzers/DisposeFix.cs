using System.Collections.Immutable;
using System.Composition;
using System.Globalization;
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
        while ((call is ExpressionSyntax and not AnonymousFunctionExpressionSyntax && !MayBeAnother(call))
            || call is EqualsValueClauseSyntax or VariableDeclaratorSyntax or VariableDeclarationSyntax)
        {
            call = call.Parent;
        }

        // A task that nobody waits for is another mistake, which the compiler tells.
        var statement = call as StatementSyntax;
        var isAwaited = statement?.DescendantNodes().OfType<AwaitExpressionSyntax>().Any() == true;
        var isTask = !isAwaited && context.Diagnostics[0].GetMessage(CultureInfo.InvariantCulture).Contains("Async")
            && statement?.DescendantNodes().OfType<MemberAccessExpressionSyntax>()
                .Any(member => member.Name.Identifier.Text is "GetResult" or "Result") != true;
        SyntaxNode? mended = isTask ? null : statement switch
        {
            LocalDeclarationStatementSyntax local => local.WithUsingKeyword(SyntaxFactory.Token(SyntaxKind.UsingKeyword))
                .WithAwaitKeyword(isAwaited ? SyntaxFactory.Token(SyntaxKind.AwaitKeyword) : default).WithoutLeadingTrivia(),
            ExpressionStatementSyntax { Expression: not AssignmentExpressionSyntax } expression => SyntaxFactory.ParseStatement(
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

    // Of another lock it is not known who has it.
    private static bool MayBeAnother(SyntaxNode expression) => expression switch
    {
        BinaryExpressionSyntax { RawKind: (int)SyntaxKind.CoalesceExpression, Right: var other } => other is not ThrowExpressionSyntax,
        ConditionalExpressionSyntax either => !IsNull(either.WhenTrue) && !IsNull(either.WhenFalse),
        _ => false,
    };

    private static bool IsNull(ExpressionSyntax expression) =>
        expression.IsKind(SyntaxKind.NullLiteralExpression) || expression.IsKind(SyntaxKind.DefaultLiteralExpression);
}
