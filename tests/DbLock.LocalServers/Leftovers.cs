namespace DbLock.LocalServers;

/// <summary>What earlier runs left behind, because even their watchdogs were killed.</summary>
internal static class Leftovers
{
    private static readonly Lazy<Task> Removed = new(RemoveAsync);

    /// <summary>Removes them, once in this process.</summary>
    public static Task RemoveOnceAsync() => Removed.Value;

    private static Task RemoveAsync() => Task.WhenAll(Directory.EnumerateDirectories("/tmp", "dblock-*")
        .Where(IsLeftover)
        .Select(async folder => await (await Watchdog.StartAsync(folder, "KILL", ["false"])).DisposeAsync()));

    private static bool IsLeftover(string name)
    {
        var folder = new DirectoryInfo(name);
        try
        {
            // Without the file it may be so new that its watchdog has not written it yet.
            return folder.LinkTarget is null
                && PrivateServer.Kinds.Any(kind => folder.Name.StartsWith($"dblock-{kind}-", StringComparison.Ordinal))
                && (folder.EnumerateFiles("watchdog.pid").Any() || folder.LastWriteTimeUtc < DateTime.UtcNow.AddMinutes(-1))
                && !Watchdog.Owns(name);
        }
        catch (Exception error) when (error is UnauthorizedAccessException or DirectoryNotFoundException)
        {
            return false; // another user's, or gone meanwhile
        }
    }
}
