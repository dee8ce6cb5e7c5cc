using System.Globalization;
using System.Runtime.Versioning;
using DbLock.Cli;

// The processes, signals and terminals that dblock works with are those of Unix.
[assembly: UnsupportedOSPlatform("windows")]

// What is written is the same whatever the user's culture is.
CultureInfo.CurrentCulture = CultureInfo.CurrentUICulture = CultureInfo.InvariantCulture;
CultureInfo.DefaultThreadCurrentCulture = CultureInfo.DefaultThreadCurrentUICulture = CultureInfo.InvariantCulture;
return await Dblock.RunAsync(args).ConfigureAwait(false);
