namespace DbLock.Cli;

/// <summary>The user asked for what makes no sense. The message is what he sees.</summary>
internal sealed class UsageException(string message) : Exception(message);
