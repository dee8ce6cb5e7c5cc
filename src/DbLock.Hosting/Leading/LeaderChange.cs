namespace DbLock;

/// <summary>What changes for an instance in an election.</summary>
public enum LeaderChange
{
    /// <summary>It leads from now on: its service is started next.</summary>
    Elected,

    /// <summary>Its application stops: its service has stopped, and it lets go of the lock next.</summary>
    Resigned,

    /// <summary>It has lost the lock: its service has stopped, and it stands for election again.</summary>
    Lost,

    /// <summary>Its service has failed, and it lets go of the lock next. It stands for election again after a pause.</summary>
    Failed,
}
