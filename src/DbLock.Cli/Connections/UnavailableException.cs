namespace DbLock.Cli;

/// <summary>There is no way to the database. The message is what the user sees.</summary>
internal sealed class UnavailableException(string message) : Exception(message);
