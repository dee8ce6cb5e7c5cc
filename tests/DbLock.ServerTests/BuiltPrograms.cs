namespace DbLock.ServerTests;

/// <summary>The programs that were built with the tests, in their own folders.</summary>
internal static class BuiltPrograms
{
    /// <summary>Returns the path of a project's program.</summary>
    public static string Path(string project, string program)
    {
        // artifacts/bin/PROJECT/CONFIGURATION
        var here = new DirectoryInfo(AppContext.BaseDirectory);
        var path = System.IO.Path.Combine(here.Parent!.Parent!.FullName, project, here.Name, program);
        return File.Exists(path) ? path : throw new InvalidOperationException($"{path} is not there: build the solution first (./build.sh cli removes it).");
    }
}
