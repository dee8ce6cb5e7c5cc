namespace DbLock.Cli;

/// <summary>What is done to the command when the lock is lost while it runs.</summary>
internal enum WhenLost
{
    /// <summary>It gets SIGTERM, and SIGKILL if it has not ended after the grace.</summary>
    Terminate,

    /// <summary>It gets SIGKILL at once.</summary>
    Kill,

    /// <summary>It runs on.</summary>
    Ignore,
}
