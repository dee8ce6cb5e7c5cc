namespace DbLock.Drivers;

/// <summary>What an error means for a statement about leases.</summary>
public enum LeaseTrouble
{
    /// <summary>It is not known whether the statement was done.</summary>
    Unknown,

    /// <summary>Nothing was done, because another was faster: the lease is not to be had now.</summary>
    NotNow,

    /// <summary>Nothing was done, because transactions were in each other's way: the same statement may be sent again at once.</summary>
    Again,

    /// <summary>Nothing was done: there is no such table, or it has other columns.</summary>
    NoTable,

    /// <summary>Nothing was done: the user has no right to it.</summary>
    NoRight,

    /// <summary>Nothing was done: this server takes no writes now, as a standby or a node without its fellows.</summary>
    NoWrites,

    /// <summary>Nothing was done: the server's own error says why.</summary>
    Refused,
}
