namespace DbLock.Drivers;

/// <summary>The command timeout of a provider whose commands DbLock itself ends from beside when they are late.</summary>
internal static class LateCommands
{
    private const int MoreSeconds = 10;

    /// <summary>
    /// Returns the timeout that is set on a command of Npgsql's. It comes well after DbLock's own end: Npgsql would cancel the command, for
    /// which it connects to a server that is silent, and nobody could end that.
    /// </summary>
    public static int? LastTimeout(this LockStatement statement) =>
        statement.CommandTimeout is > 0 and var seconds ? seconds + MoreSeconds : statement.CommandTimeout;
}
