using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace DbLock;

/// <summary>Finds a using of the answer to an acquire. The compiler refuses it too, and says nothing of locks.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class DisposedAnswerAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [Rules.DisposedAnswer];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterSyntaxNodeAction(Look, SyntaxKind.UsingStatement, SyntaxKind.LocalDeclarationStatement);
    }

    private static void Look(SyntaxNodeAnalysisContext context)
    {
        var variables = context.Node switch
        {
            UsingStatementSyntax { Declaration: { } declaration } => declaration.Variables,
            LocalDeclarationStatementSyntax { UsingKeyword.RawKind: not 0 } statement => statement.Declaration.Variables,
            _ => default,
        };
        var values = variables.Select(variable => variable.Initializer?.Value);
        foreach (var value in values.Append((context.Node as UsingStatementSyntax)?.Expression))
        {
            if (value is not null
                && Locks.Unwrap(context.SemanticModel.GetOperation(value, context.CancellationToken)) is IInvocationOperation call
                && Locks.IsAcquire(call))
            {
                context.ReportDiagnostic(Diagnostic.Create(Rules.DisposedAnswer, value.GetLocation(), call.TargetMethod.Name));
            }
        }
    }
}
