namespace DbLock.Cli;

/// <summary>The user asked for what makes no sense. The message is what he sees.</summary>
internal sealed class UsageException(string message) : Exception(message)
{
    /// <summary>Refuses what makes no sense.</summary>
    public static void ThrowIf(bool makesNoSense, string message)
    {
        if (makesNoSense)
        {
            throw new UsageException(message);
        }
    }
}
