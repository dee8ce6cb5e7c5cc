using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Operations;

namespace DbLock;

/// <summary>What the rules know of DbLock's types and methods.</summary>
internal static class Locks
{
    /// <summary>Says whether a method is one of DbLock's packages.</summary>
    public static bool IsOurs(IMethodSymbol method) => IsOurs(method.ContainingType);

    /// <summary>Says whether a type is one of DbLock's packages.</summary>
    public static bool IsOurs(ITypeSymbol? type) =>
        type is
        {
            ContainingNamespace: { Name: "DbLock", ContainingNamespace.IsGlobalNamespace: true },
            ContainingAssembly.Name: var assembly,
        }
        && (assembly == "DbLock" || assembly.StartsWith("DbLock.", StringComparison.Ordinal));

    /// <summary>Says whether a call acquires, and answers with a bool.</summary>
    public static bool IsAcquire(IInvocationOperation call) =>
        IsOurs(call.TargetMethod) && call.TargetMethod.Name is
            "Acquire" or "AcquireAsync" or "LockTable" or "LockTableAsync" or "LockTables" or "LockTablesAsync";

    /// <summary>Says whether a call that acquires can answer that the lock is not held: it tries, or has a timeout.</summary>
    public static bool CanAnswerNo(IInvocationOperation acquire) => acquire.Arguments.Any(argument => argument.Parameter?.Name switch
    {
        "block" => !argument.Value.ConstantValue.HasValue || argument.Value.ConstantValue.Value is false,
        "timeout" => argument.ArgumentKind != ArgumentKind.DefaultValue && !IsInfinite(Unwrap(argument.Value)),
        _ => false,
    });

    /// <summary>Returns the call that returns a held lock, also on a side of a ?? or a ?:; null where none does.</summary>
    public static IInvocationOperation? HeldLock(IOperation? operation) => Unwrap(operation) switch
    {
        IInvocationOperation
        {
            TargetMethod: { Name: "AcquireLock" or "AcquireLockAsync" or "TryAcquireLock" or "TryAcquireLockAsync" } method,
        } call when IsOurs(method) => call,
        ICoalesceOperation either => HeldLock(either.Value) ?? HeldLock(either.WhenNull),
        IConditionalOperation either => HeldLock(either.WhenTrue) ?? HeldLock(either.WhenFalse),
        _ => null,
    };

    /// <summary>Returns how a lock is made that is not acquired yet; null where an operation makes none.</summary>
    public static string? NewLock(IOperation? operation) => Unwrap(operation) switch
    {
        IObjectCreationOperation { Type: { Name: "Lock" } type } when IsOurs(type) => "new Lock",
        IInvocationOperation { TargetMethod: { Name: "CreateLock" } method } when IsOurs(method) => method.Name,
        _ => null,
    };

    /// <summary>Says whether a type is a task, or another awaitable of one.</summary>
    public static bool IsTask(ITypeSymbol type) => type.ContainingNamespace?.ToDisplayString() is
        "System.Threading.Tasks" or "System.Runtime.CompilerServices";

    /// <summary>Says whether an operation is in a body of which a test expects that it throws: Assert.ThrowsAsync, Should.Throw.</summary>
    public static bool MustThrow(IOperation operation)
    {
        for (var outer = operation; outer is not null; outer = outer.Parent)
        {
            if (outer is IAnonymousFunctionOperation
                && outer.Parent is IDelegateCreationOperation { Parent: IArgumentOperation { Parent: IInvocationOperation call } }
                && call.TargetMethod.Name.Contains("Throw"))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Returns what is awaited, waited for, converted or configured.</summary>
    public static IOperation? Unwrap(IOperation? operation)
    {
        while (true)
        {
            var inner = operation switch
            {
                IAwaitOperation awaited => awaited.Operation,
                IConversionOperation conversion => conversion.Operand,
                IParenthesizedOperation parentheses => parentheses.Operand,
                IInvocationOperation
                {
                    TargetMethod.Name: "ConfigureAwait" or "AsTask" or "WaitAsync" or "GetAwaiter" or "GetResult",
                } call => call.Instance ?? call.Arguments.FirstOrDefault()?.Value,
                IInvocationOperation { TargetMethod: { Name: "Wait", ContainingType: var type } } wait when IsTask(type) => wait.Instance,
                IPropertyReferenceOperation { Property: { Name: "Result", ContainingType: var type } } result when IsTask(type) =>
                    result.Instance,
                _ => null,
            };
            if (inner is null)
            {
                return operation;
            }

            operation = inner;
        }
    }

    /// <summary>Returns every use of a local in the member that declares it: each reference but those that give it a value.</summary>
    public static IEnumerable<IOperation> Uses(IOperation within, ILocalSymbol local)
    {
        var root = within;
        while (root.Parent is not null)
        {
            root = root.Parent;
        }

        return root.Descendants().OfType<ILocalReferenceOperation>()
            .Where(reference => !reference.IsDeclaration && SymbolEqualityComparer.Default.Equals(reference.Local, local)
                && (reference.Parent as ISimpleAssignmentOperation)?.Target != reference);
    }

    /// <summary>
    /// Returns the name of the member that a reference is used for; null when it is used otherwise: returned, given, kept or captured.
    /// </summary>
    public static string? MemberOf(IOperation reference)
    {
        var (child, parent) = (reference, reference.Parent);
        while (parent is IConversionOperation or IParenthesizedOperation)
        {
            (child, parent) = (parent, parent.Parent);
        }

        return parent switch
        {
            IInvocationOperation call when call.Instance == child => call.TargetMethod.Name,
            IPropertyReferenceOperation property when property.Instance == child => property.Property.Name,
            IConditionalAccessOperation access when access.Operation == child =>
                access.WhenNotNull.DescendantsAndSelf().OfType<IConditionalAccessInstanceOperation>().Select(MemberOf).FirstOrDefault(),
            IIsPatternOperation
            {
                Pattern: IConstantPatternOperation or INegatedPatternOperation { Pattern: IConstantPatternOperation },
            } => "is",
            IBinaryOperation { OperatorKind: BinaryOperatorKind.Equals or BinaryOperatorKind.NotEquals } => "==",
            _ => null,
        };
    }

    private static bool IsInfinite(IOperation? timeout) =>
        timeout is IFieldReferenceOperation { Field.Name: "InfiniteTimeSpan" } or { ConstantValue: { HasValue: true, Value: null } };
}
