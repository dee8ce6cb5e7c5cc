using System.Data.Common;

namespace DbLock.Drivers;

/// <summary>
/// A driver that hears what the server tells a session that listens (<see cref="LockCarrier.Listen"/>). Over any other driver a
/// <see cref="LockPool"/> finds releases by asking.
/// </summary>
public interface IListeningDriver : ILockDriver
{
    /// <summary>Hears what a session is told that listens, until it is cancelled or the connection ends.</summary>
    /// <param name="connection">An open connection that nothing else uses.</param>
    /// <param name="heard">Is called for each message, with its text.</param>
    /// <param name="cancellationToken">Ends the hearing; the connection stays usable.</param>
    Task Hear(DbConnection connection, Action<string> heard, CancellationToken cancellationToken);
}
