using System.Runtime.Versioning;
using DbLock.Cli;

// The processes, signals and terminals that dblock works with are those of Unix.
[assembly: UnsupportedOSPlatform("windows")]

return await Dblock.RunAsync(args).ConfigureAwait(false);
