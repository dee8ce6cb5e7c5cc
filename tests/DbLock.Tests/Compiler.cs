using System.Collections.Immutable;
using System.Globalization;
using System.Reflection;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;

namespace DbLock.Tests;

/// <summary>The C# compiler, over what a user of every package would reference.</summary>
internal static class Compiler
{
    // What a new console project has.
    private const string ImplicitUsings = """
        global using System;
        global using System.Collections.Generic;
        global using System.IO;
        global using System.Linq;
        global using System.Net.Http;
        global using System.Threading;
        global using System.Threading.Tasks;
        """;

    // And what a new web project has besides.
    private const string WebUsings = """
        global using System.Net.Http.Json;
        global using Microsoft.AspNetCore.Builder;
        global using Microsoft.AspNetCore.Hosting;
        global using Microsoft.AspNetCore.Http;
        global using Microsoft.AspNetCore.Routing;
        global using Microsoft.Extensions.Configuration;
        global using Microsoft.Extensions.DependencyInjection;
        global using Microsoft.Extensions.Hosting;
        global using Microsoft.Extensions.Logging;
        """;

    private static readonly CSharpParseOptions Language = new(LanguageVersion.CSharp14);

    private static readonly CSharpCompilation Empty = CSharpCompilation.Create(
        "program",
        [CSharpSyntaxTree.ParseText(ImplicitUsings, Language)],
        ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator).Where(IsForUsers).Select(path => MetadataReference.CreateFromFile(path)),
        new CSharpCompilationOptions(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));

    public static string Repository { get; } =
        typeof(Compiler).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Repository").Value!;

    /// <summary>Gets what a user's program refers to.</summary>
    public static IEnumerable<MetadataReference> References => Empty.References;

    /// <summary>Gets the analyzers that are in the package of the core.</summary>
    public static ImmutableArray<DiagnosticAnalyzer> Analyzers { get; } =
    [
        .. typeof(DroppedAnswerAnalyzer).Assembly.GetTypes().Where(type => type.IsSubclassOf(typeof(DiagnosticAnalyzer)))
            .Select(type => (DiagnosticAnalyzer)Activator.CreateInstance(type)!),
    ];

    /// <summary>Compiles the Program.cs of a new project and returns its errors, as <c>CS0619: text</c>.</summary>
    public static string[] Errors(string program, bool isWeb = false) => Texts(Program(program, isWeb).Emit(Stream.Null).Diagnostics);

    /// <summary>Returns the mistakes with locks of the Program.cs of a new project, as <c>DBLOCK001: text</c>.</summary>
    public static async Task<string[]> MistakesAsync(string program, bool isWeb = false) =>
        Texts(await Program(program, isWeb).WithAnalyzers(Analyzers).GetAnalyzerDiagnosticsAsync());

    /// <summary>Returns sources of a library of its own, over the same packages but DbLock's.</summary>
    public static CSharpCompilation Library(IEnumerable<string> sources) => CSharpCompilation.Create(
        "library",
        sources.Prepend(ImplicitUsings).Select(source => CSharpSyntaxTree.ParseText(source, Language)),
        Empty.References.Where(reference => !Path.GetFileName(reference.Display!).StartsWith("DbLock", StringComparison.Ordinal)));

    private static CSharpCompilation Program(string program, bool isWeb) =>
        Empty.AddSyntaxTrees(CSharpSyntaxTree.ParseText(program, Language), CSharpSyntaxTree.ParseText(isWeb ? WebUsings : "", Language));

    private static string[] Texts(IEnumerable<Diagnostic> diagnostics) =>
    [
        .. diagnostics.Where(diagnostic => diagnostic.Severity == DiagnosticSeverity.Error)
            .Select(error => $"{error.Id}: {error.GetMessage(CultureInfo.InvariantCulture)}"),
    ];

    // The tests' own libraries would hide a package that a user lacks.
    private static bool IsForUsers(string path) => Path.GetFileName(path) is var name
        && name is not ("DbLock.Tests.dll" or "DbLock.Analyzers.dll")
        && !name.StartsWith("xunit", StringComparison.Ordinal)
        && !name.StartsWith("Microsoft.CodeAnalysis", StringComparison.Ordinal)
        && !name.StartsWith("Microsoft.Testing", StringComparison.Ordinal);
}
