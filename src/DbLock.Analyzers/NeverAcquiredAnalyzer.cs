using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace DbLock;

/// <summary>Finds a lock in a using that nothing acquires.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class NeverAcquiredAnalyzer : DiagnosticAnalyzer
{
    private static readonly HashSet<string> WithoutAcquiring = new(StringComparer.Ordinal)
    {
        "Key", "Interface", "Transaction", "IsHeld", "Lost", "FencingToken", "ThrowIfLost", "HandleError", "HandleErrorAsync", "Release",
        "ReleaseAsync", "Dispose", "DisposeAsync",
    };

    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [Rules.NeverAcquired];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Look, OperationKind.Using, OperationKind.UsingDeclaration);
    }

    private static void Look(OperationAnalysisContext context)
    {
        var resource = context.Operation is IUsingOperation statement
            ? statement.Resources : ((IUsingDeclarationOperation)context.Operation).DeclarationGroup;
        if (resource is not IVariableDeclarationGroupOperation group)
        {
            LookAt(context, resource, []);
            return;
        }

        foreach (var variable in group.Declarations.SelectMany(declaration => declaration.Declarators))
        {
            LookAt(context, variable.GetVariableInitializer()?.Value, Locks.Uses(context.Operation, variable.Symbol));
        }
    }

    private static void LookAt(OperationAnalysisContext context, IOperation? value, IEnumerable<IOperation> references)
    {
        if (Locks.NewLock(value) is { } name
            && references.All(reference => Locks.MemberOf(reference) is { } member && WithoutAcquiring.Contains(member)))
        {
            context.ReportDiagnostic(Diagnostic.Create(Rules.NeverAcquired, Locks.Unwrap(value)!.Syntax.GetLocation(), name));
        }
    }
}
