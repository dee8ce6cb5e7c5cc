using Microsoft.CodeAnalysis;

namespace DbLock;

/// <summary>The rules. Each has a section in docs/analyzers.md.</summary>
internal static class Rules
{
    public static readonly DiagnosticDescriptor DroppedAnswer = Rule(
        "DBLOCK001",
        "The answer to a try is dropped",
        "{0} answers whether the lock is held, and nobody looks: what follows runs without the lock too. Write if ({0}(…)) {{ … }}.");

    public static readonly DiagnosticDescriptor NeverLetGo = Rule(
        "DBLOCK002",
        "A held lock is not disposed",
        "The lock that {0} returns is never disposed: it is held until the garbage collector finds it. Write await using var held = ….");

    public static readonly DiagnosticDescriptor NeverAcquired = Rule(
        "DBLOCK003",
        "A lock is made and never acquired",
        "{0} makes a lock and acquires nothing, so that this code runs without it: acquire it (AcquireAsync, RunAsync), or take a "
        + "held lock from a data source (AcquireLockAsync)");

    public static readonly DiagnosticDescriptor DisposedAnswer = Rule(
        "DBLOCK004",
        "The answer to an acquire is disposed",
        "{0} returns whether the lock is held, a bool, which cannot be disposed: write await using on the lock itself and look at the "
        + "answer, or take a held lock from a data source (AcquireLockAsync)");

    public static readonly DiagnosticDescriptor AsynchronousBody = Rule(
        "DBLOCK005",
        "An asynchronous body is given to a synchronous call",
        "{0} lets go of the lock at the first await of this body, which goes on without it: use {0}Async");

    public static readonly DiagnosticDescriptor IgnoredToken = Rule(
        "DBLOCK006",
        "A body ignores the token that tells of the loss of the lock",
        "The body's token fires when the lock is lost, and this body does not look at it: give it to what it calls",
        DiagnosticSeverity.Info);

    private static DiagnosticDescriptor Rule(
        string id, string title, string message, DiagnosticSeverity severity = DiagnosticSeverity.Error) =>
        new(id, title, message, "DbLock", severity, isEnabledByDefault: true);
}
