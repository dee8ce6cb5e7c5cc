namespace DbLock.LocalServers;

/// <summary>An ODBC driver, named in a connection string by its file, so that nothing needs to be registered in odbcinst.ini.</summary>
internal static class OdbcDriverFile
{
    /// <exception cref="InvalidOperationException">No usual folder has it; the message names the package.</exception>
    public static string Find(string file, string package) => Folders()
        .Select(folder => Path.Combine(folder, file))
        .FirstOrDefault(File.Exists)
        ?? throw new InvalidOperationException($"The ODBC driver {file} was not found: apt-get install {package}");

    private static IEnumerable<string> Folders() => Directory.EnumerateDirectories("/usr/lib")
        .SelectMany(folder => new[] { Path.Combine(folder, "odbc"), folder })
        .Concat(["/usr/lib64", "/usr/lib", "/usr/local/lib"]);
}
