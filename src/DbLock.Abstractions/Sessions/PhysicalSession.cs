using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>
/// What is known of one session of the server. Where the driver can show the physical connection, it is kept for as long as the provider's
/// pool keeps that, over one <see cref="DbConnection"/> after another; otherwise from the opening of a connection to its close.
/// </summary>
internal sealed class PhysicalSession
{
    private static readonly ConditionalWeakTable<object, PhysicalSession> Pooled = [];

    private (ILockDriver Driver, int? Id)? _id;
    private (ILockDriver Driver, object Commands)[] _commands = [];

    private PhysicalSession()
    {
    }

    /// <summary>Returns what is known of the session behind a connection that has just been opened.</summary>
    public static PhysicalSession Of(DbConnection connection, ILockDriver driver) =>
        driver.PhysicalConnection(connection) is { } physical
            ? Pooled.GetValue(physical, static _ => new PhysicalSession()) : new PhysicalSession();

    /// <summary>
    /// Gets or sets whether it is known that no pooler stands between the client and this session (<see cref="LockReply.IsDirect"/>).
    /// </summary>
    public bool IsDirect { get; set; }

    /// <summary>
    /// Gets or sets whether it is known that what is sent goes to this one session, so that it may be prepared. That says nothing of the
    /// server's locks.
    /// </summary>
    public bool IsOne
    {
        get => field || IsDirect;
        set;
    }

    /// <summary>Gets or sets the dialects that were found, each through an interface.</summary>
    public (LockInterface Interface, LockDialect Dialect)[] Dialects { get; set; } = [];

    /// <summary>Returns the session's number as the client knows it (<see cref="ILockDriver.SessionId"/>).</summary>
    public int? Id(DbConnection connection, ILockDriver driver)
    {
        if (_id is not { } id || id.Driver != driver)
        {
            _id = id = (driver, driver.SessionId(connection));
        }

        return id.Id;
    }

    /// <summary>Returns the commands that a driver keeps for this session.</summary>
    public KeptCommands<T> Commands<T>(ILockDriver driver)
        where T : class
    {
        foreach (var (owner, commands) in _commands)
        {
            if (owner == driver)
            {
                return (KeptCommands<T>)commands;
            }
        }

        var kept = new KeptCommands<T>();
        _commands = [.. _commands, (driver, kept)];
        return kept;
    }
}
