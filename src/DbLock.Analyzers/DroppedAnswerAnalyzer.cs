using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace DbLock;

/// <summary>Finds a try, or an acquire with a timeout, whose answer nobody looks at.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class DroppedAnswerAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [Rules.DroppedAnswer];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Look, OperationKind.ExpressionStatement);
    }

    private static void Look(OperationAnalysisContext context)
    {
        var statement = (IExpressionStatementOperation)context.Operation;
        if (Locks.Unwrap(statement.Operation) is IInvocationOperation call && Locks.IsAcquire(call) && Locks.CanAnswerNo(call)
            && !Locks.MustThrow(call))
        {
            context.ReportDiagnostic(Diagnostic.Create(Rules.DroppedAnswer, statement.Syntax.GetLocation(), call.TargetMethod.Name));
        }
    }
}
