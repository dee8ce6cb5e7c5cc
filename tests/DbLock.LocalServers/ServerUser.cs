namespace DbLock.LocalServers;

/// <summary>The user that servers run as: ourselves, or nobody when we are root, whom PostgreSQL and PgBouncer refuse.</summary>
internal static class ServerUser
{
    /// <summary>The number of the user and of its group; empty when it is ourselves.</summary>
    public static string Id { get; } = Environment.IsPrivilegedProcess ? "65534" : "";

    /// <summary>The command that runs the given one as this user.</summary>
    public static string[] Command(IEnumerable<string> command) => Id.Length == 0
        ? [.. command]
        : ["setpriv", $"--reuid={Id}", $"--regid={Id}", "--clear-groups", "--", .. command];
}
