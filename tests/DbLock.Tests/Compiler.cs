using System.Diagnostics;
using System.Reflection;
using System.Text.RegularExpressions;

namespace DbLock.Tests;

/// <summary>The SDK's C# compiler, over what a user of every package would reference.</summary>
internal static partial class Compiler
{
    public static string Repository { get; } = Metadata("Repository");

    /// <summary>Compiles a program and returns its errors, as <c>CS0619: text</c>.</summary>
    public static async Task<string[]> ErrorsAsync(string program)
    {
        var folder = Directory.CreateTempSubdirectory("dblock-compile-");
        try
        {
            var source = Path.Combine(folder.FullName, "Program.cs");
            await File.WriteAllTextAsync(source, program);
            await File.WriteAllTextAsync(Path.Combine(folder.FullName, "Usings.cs"), """
                global using System;
                global using System.Collections.Generic;
                global using System.IO;
                global using System.Linq;
                global using System.Net.Http;
                global using System.Threading;
                global using System.Threading.Tasks;
                """);
            var references = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator)
                .Where(path => !Path.GetFileName(path).StartsWith("xunit", StringComparison.Ordinal) && Path.GetFileName(path) != "DbLock.Tests.dll");
            var response = Path.Combine(folder.FullName, "arguments.rsp");
            await File.WriteAllLinesAsync(response,
            [
                "/nologo", "/noconfig", "/nostdlib", "/nullable:enable", "/langversion:14", "/target:exe", $"/out:\"{Path.Combine(folder.FullName, "program.dll")}\"",
                .. references.Select(path => $"/reference:\"{path}\""), $"\"{folder.FullName}/*.cs\"",
            ]);
            using var compiler = Process.Start(new ProcessStartInfo("dotnet", [Metadata("Compiler"), "@" + response]) { RedirectStandardOutput = true })!;
            var output = await compiler.StandardOutput.ReadToEndAsync();
            await compiler.WaitForExitAsync();
            return [.. Error().Matches(output).Select(match => match.Groups[1].Value)];
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static string Metadata(string key) =>
        typeof(Compiler).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;

    [GeneratedRegex(@"error (\w+: .*)")]
    private static partial Regex Error();
}
