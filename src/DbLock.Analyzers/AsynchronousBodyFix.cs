using System.Collections.Immutable;
using System.Composition;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace DbLock;

/// <summary>Gives an asynchronous body to the asynchronous call, and awaits that.</summary>
[ExportCodeFixProvider(LanguageNames.CSharp), Shared]
public sealed class AsynchronousBodyFix : CodeFixProvider
{
    /// <inheritdoc/>
    public override ImmutableArray<string> FixableDiagnosticIds { get; } = [Rules.AsynchronousBody.Id];

    /// <inheritdoc/>
    public override FixAllProvider GetFixAllProvider() => WellKnownFixAllProviders.BatchFixer;

    /// <inheritdoc/>
    public override async Task RegisterCodeFixesAsync(CodeFixContext context)
    {
        var root = await context.Document.GetSyntaxRootAsync(context.CancellationToken).ConfigureAwait(false);
        if (root?.FindNode(context.Span).FirstAncestorOrSelf<ArgumentSyntax>() is
            { Expression: ParenthesizedLambdaExpressionSyntax or SimpleLambdaExpressionSyntax } argument
            && argument.FirstAncestorOrSelf<InvocationExpressionSyntax>() is
            { Expression: MemberAccessExpressionSyntax { Name: IdentifierNameSyntax name } member } call
            && CanAwait(call))
        {
            context.RegisterCodeFix(
                CodeAction.Create(
                    $"Use {name.Identifier.Text}Async",
                    _ => Task.FromResult(context.Document.WithSyntaxRoot(root.ReplaceNode(call, Mend(call, member, name, argument)))),
                    nameof(AsynchronousBodyFix)),
                context.Diagnostics);
        }
    }

    // Only in what is asynchronous already: its signature need not change.
    private static bool CanAwait(SyntaxNode call) => call.Ancestors().Select(ancestor => ancestor switch
    {
        MethodDeclarationSyntax method => method.Modifiers.Any(SyntaxKind.AsyncKeyword),
        LocalFunctionStatementSyntax method => method.Modifiers.Any(SyntaxKind.AsyncKeyword),
        AnonymousFunctionExpressionSyntax lambda => lambda.Modifiers.Any(SyntaxKind.AsyncKeyword),
        GlobalStatementSyntax => true,
        BaseMethodDeclarationSyntax or AccessorDeclarationSyntax => false,
        _ => (bool?)null,
    }).FirstOrDefault(can => can is not null) == true;

    private static AwaitExpressionSyntax Mend(
        InvocationExpressionSyntax call, MemberAccessExpressionSyntax member, IdentifierNameSyntax name, ArgumentSyntax argument)
    {
        var parameters = argument.Expression is ParenthesizedLambdaExpressionSyntax lambda
            ? lambda.ParameterList.Parameters.Select(parameter => parameter.ToString())
            : [((SimpleLambdaExpressionSyntax)argument.Expression).Parameter.ToString()];
        var all = string.Join(", ", parameters.Append("cancellationToken"));
        var old = (LambdaExpressionSyntax)argument.Expression;
        var body = SyntaxFactory.ParseExpression(
            $"{old.Modifiers.ToFullString()}{(all.Contains(' ') ? $"({all})" : all)} => {old.Body.ToFullString()}");
        var mended = call.ReplaceNode(argument, argument.WithExpression(body));
        mended = mended.WithExpression(member.WithName(SyntaxFactory.IdentifierName($"{name.Identifier.Text}Async")));
        return SyntaxFactory.AwaitExpression(
                SyntaxFactory.Token(SyntaxKind.AwaitKeyword).WithTrailingTrivia(SyntaxFactory.Space), mended.WithoutLeadingTrivia())
            .WithLeadingTrivia(call.GetLeadingTrivia());
    }
}
