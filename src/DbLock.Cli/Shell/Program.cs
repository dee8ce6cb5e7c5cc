using System.Runtime.Versioning;
using DbLock.Cli;

// Processes, signals and terminals are those of Unix.
[assembly: UnsupportedOSPlatform("windows")]

return await Dblock.RunAsync(args).ConfigureAwait(false);
