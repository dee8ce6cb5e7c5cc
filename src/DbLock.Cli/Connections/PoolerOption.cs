using System.CommandLine;

namespace DbLock.Cli;

/// <summary>Whether a connection pooler between dblock and the server is trusted.</summary>
internal static class PoolerOption
{
    public static Option<bool> Create() => new("--trust-pooler")
    {
        Description = "The connection pooler in between keeps one server session for each client (PgBouncer's session mode)",
    };
}
