using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace DbLock;

/// <summary>Finds a held lock that is dropped, or that has a name by which nobody lets go of it.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class NeverLetGoAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [Rules.NeverLetGo];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(LookAtStatement, OperationKind.ExpressionStatement);
        context.RegisterOperationAction(LookAtVariable, OperationKind.VariableDeclarator);
        context.RegisterOperationAction(LookAtAssignment, OperationKind.SimpleAssignment);
        context.RegisterOperationAction(LookAtPattern, OperationKind.IsPattern);
    }

    private static void LookAtStatement(OperationAnalysisContext context)
    {
        if (Locks.HeldLock(((IExpressionStatementOperation)context.Operation).Operation) is { } call && !Locks.MustThrow(call))
        {
            Report(context, call);
        }
    }

    private static void LookAtVariable(OperationAnalysisContext context)
    {
        var variable = (IVariableDeclaratorOperation)context.Operation;
        var isUsed = variable.Parent?.Parent?.Parent is IUsingOperation or IUsingDeclarationOperation;
        if (!isUsed && Locks.HeldLock(variable.GetVariableInitializer()?.Value) is { } call)
        {
            LookAtLocal(context, variable.Symbol, call);
        }
    }

    private static void LookAtAssignment(OperationAnalysisContext context)
    {
        var assignment = (ISimpleAssignmentOperation)context.Operation;
        if (assignment is { Target: ILocalReferenceOperation { Local: { IsRef: false } local }, Parent: IExpressionStatementOperation }
            && Locks.HeldLock(assignment.Value) is { } call)
        {
            LookAtLocal(context, local, call);
        }
    }

    private static void LookAtPattern(OperationAnalysisContext context)
    {
        var pattern = (IIsPatternOperation)context.Operation;
        var declared = pattern.Pattern switch
        {
            IDeclarationPatternOperation declaration => declaration.DeclaredSymbol,
            IRecursivePatternOperation recursive => recursive.DeclaredSymbol,
            INegatedPatternOperation { Pattern: IRecursivePatternOperation recursive } => recursive.DeclaredSymbol,
            INegatedPatternOperation { Pattern: IDeclarationPatternOperation declaration } => declaration.DeclaredSymbol,
            _ => null,
        };
        if (Locks.HeldLock(pattern.Value) is not { } call)
        {
            return;
        }

        if (declared is ILocalSymbol local)
        {
            LookAtLocal(context, local, call);
        }
        else
        {
            Report(context, call);
        }
    }

    private static void LookAtLocal(OperationAnalysisContext context, ILocalSymbol local, IInvocationOperation call)
    {
        // A task that will have the lock is awaited or given on by members of its own.
        var members = Locks.Uses(context.Operation, local).Select(Locks.MemberOf);
        if (Locks.IsTask(local.Type)
            ? !members.Any()
            : members.All(member => member is not (null or "Dispose" or "DisposeAsync" or "Release" or "ReleaseAsync"))
                && !Locks.MustThrow(call))
        {
            Report(context, call);
        }
    }

    private static void Report(OperationAnalysisContext context, IInvocationOperation call) =>
        context.ReportDiagnostic(Diagnostic.Create(Rules.NeverLetGo, call.Syntax.GetLocation(), call.TargetMethod.Name));
}
