using System.Collections;
using System.Text;

namespace DbLock.Cli;

/// <summary>The words and variables that dblock was started with, byte for byte, for a command that is to have the same.</summary>
/// <remarks>
/// Each char of these strings is a byte. .NET itself reads words and variables as UTF-8, and loses what is not UTF-8.
/// </remarks>
internal static class Given
{
    // .NET puts this character in place of bytes that are not UTF-8.
    private const char NotUtf8 = '\uFFFD';

    /// <summary>Gets the environment, each variable as <c>NAME=value</c>.</summary>
    public static IReadOnlyList<string> Variables { get; } = Read("/proc/self/environ")
        ?? [.. Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(variable => Bytes($"{variable.Key}={variable.Value}"))];

    /// <summary>Returns the last words of the command line.</summary>
    /// <param name="words">What .NET has read them as.</param>
    /// <exception cref="UsageException">One of them is not UTF-8, and the system does not tell what it is.</exception>
    public static string[] Words(string[] words) =>
        Read("/proc/self/cmdline") is { } line && line.Count > words.Length
            && line.TakeLast(words.Length).Zip(words).All(pair => !IsUtf8(pair.Second) || pair.First == Bytes(pair.Second))
            ? [.. line.TakeLast(words.Length)]
            : words.All(IsUtf8)
                ? [.. words.Select(Bytes)]
                : throw new UsageException("the command must be UTF-8 on this system: what is not would come to it as something else");

    /// <summary>Says whether a word or variable was UTF-8 when .NET read it.</summary>
    public static bool IsUtf8(string text) => !text.Contains(NotUtf8, StringComparison.Ordinal);

    /// <summary>Returns the value of a variable; null when there is none.</summary>
    public static string? Variable(string name) =>
        Variables.FirstOrDefault(variable => variable.StartsWith($"{name}=", StringComparison.Ordinal))?[(name.Length + 1)..];

    public static string Bytes(string text) => Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));

    public static string Text(string bytes) => Encoding.UTF8.GetString(Encoding.Latin1.GetBytes(bytes));

    private static List<string>? Read(string file)
    {
        try
        {
            return File.Exists(file) ? [.. Encoding.Latin1.GetString(File.ReadAllBytes(file)).Split('\0')[..^1]] : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
