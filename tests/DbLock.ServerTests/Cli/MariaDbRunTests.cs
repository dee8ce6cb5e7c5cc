namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run</c> on MariaDB.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class MariaDbRunTests() : RunContract(CliServer.MariaDb);

/// <summary><c>dblock run</c> on MariaDB, over a network that falls silent.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class MariaDbRunSilenceTests() : RunSilenceContract(CliServer.MariaDb);
