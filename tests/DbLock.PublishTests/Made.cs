using System.Reflection;

namespace DbLock.PublishTests;

/// <summary>What <c>./build.sh</c> has made to be published.</summary>
internal static class Made
{
    public static string Repository { get; } =
        typeof(Made).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Repository").Value!;

    public static string Packages => Folder("packages", "./build.sh pack");

    public static string Site => Folder("site", "./build.sh docs");

    private static string Folder(string name, string command)
    {
        var folder = Path.Combine(Repository, "artifacts", name);
        return Directory.Exists(folder) ? folder : throw new InvalidOperationException($"{folder} is not there: {command} makes it.");
    }
}
