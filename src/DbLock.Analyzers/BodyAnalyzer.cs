using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace DbLock;

/// <summary>Finds an asynchronous body that is given to a synchronous call, and one that ignores its token.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class BodyAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [Rules.AsynchronousBody, Rules.IgnoredToken];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Look, OperationKind.Invocation);
    }

    private static void Look(OperationAnalysisContext context)
    {
        var call = (IInvocationOperation)context.Operation;
        if (!Locks.IsOurs(call.TargetMethod))
        {
            return;
        }

        foreach (var argument in call.Arguments)
        {
            if (Locks.Unwrap(argument.Value) is not IDelegateCreationOperation { Target: var body })
            {
                continue;
            }

            switch (call.TargetMethod.Name)
            {
                case "Run" or "TryRun" or "RunLocked" or "TryRunLocked" or "RunInTransaction" when IsAsynchronous(body):
                    context.ReportDiagnostic(
                        Diagnostic.Create(Rules.AsynchronousBody, argument.Syntax.GetLocation(), call.TargetMethod.Name));
                    break;
                case "RunAsync" or "TryRunAsync" or "RunLockedAsync" or "TryRunLockedAsync" or "RunInTransactionAsync"
                    when IgnoredTokenOf(body) is { } token:
                    context.ReportDiagnostic(Diagnostic.Create(Rules.IgnoredToken, token.Locations[0]));
                    break;
            }
        }
    }

    private static bool IsAsynchronous(IOperation body) => body switch
    {
        IAnonymousFunctionOperation lambda => lambda.Symbol.IsAsync || IsTask(lambda.Symbol.ReturnType),
        IMethodReferenceOperation method => method.Method.IsAsync || IsTask(method.Method.ReturnType),
        _ => false,
    };

    private static bool IsTask(ITypeSymbol type) =>
        type is { Name: "Task" or "ValueTask", ContainingNamespace: { Name: "Tasks", ContainingNamespace.Name: "Threading" } };

    // A body that calls nothing has nothing to give the token to.
    private static IParameterSymbol? IgnoredTokenOf(IOperation body)
    {
        if (body is not IAnonymousFunctionOperation lambda || !lambda.Body.Descendants().OfType<IInvocationOperation>().Any())
        {
            return null;
        }

        var used = lambda.Body.Descendants().OfType<IParameterReferenceOperation>().Select(reference => reference.Parameter)
            .ToImmutableHashSet<IParameterSymbol>(SymbolEqualityComparer.Default);
        return lambda.Symbol.Parameters.FirstOrDefault(
            parameter => parameter.Type.Name == "CancellationToken" && !used.Contains(parameter));
    }
}
