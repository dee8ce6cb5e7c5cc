using System.Data.Common;
using System.Diagnostics;
using System.Transactions;

namespace DbLock;

/// <summary>One lock that a session holds, from its grant to its end.</summary>
internal sealed class Hold(
    LockIdentity identity, LockKey key, LockOptions options, ILockDriver driver, string? database, DbTransaction? transaction,
        Transaction? enlisted, LockReply reply)
{
    // One field serves both numbers, since no lock has both: the hold is all that an acquire allocates.
    private readonly long _number = options.Scope == LockScope.Transaction ? reply.Transaction : reply.FencingToken;

    private LossSource _loss;
    private volatile bool _isReleased;

    public LockIdentity Identity { get; } = identity;

    public LockKey Key { get; } = key;

    public LockOptions Options { get; } = options;

    public ILockDriver Driver { get; } = driver;

    /// <summary>Gets the number of the transaction that ends a hold of transaction scope; 0 when the dialect does not tell.</summary>
    public long TransactionId => Options.Scope == LockScope.Transaction ? _number : 0;

    /// <summary>Gets the fencing token; 0 when the lock was not asked for with one.</summary>
    public long FencingToken => Options.Scope == LockScope.Session ? _number : 0;

    /// <summary>Gets whether it ends with a transaction of System.Transactions.</summary>
    public bool IsEnlisted => enlisted is not null;

    /// <summary>Gets whether the grant may have come after a wait (<see cref="LockReply.HasWaited"/>).</summary>
    public bool AfterWait { get; init; }

    /// <summary>Gets or sets how many acquires have not been released yet, over all locks of the connection that share this hold.</summary>
    public int Count { get; set; } = 1;

    /// <summary>Gets whether the lock is held, as far as is known without asking the server.</summary>
    public bool Stands => !_loss.IsLost && !_isReleased && (transaction is null || transaction.IsOpen())
        && (enlisted is null || enlisted.IsOpen());

    public bool IsLost => _loss.IsLost;

    /// <summary>Gets the database for telemetry; null when nobody listens to that.</summary>
    public string? Database { get; } = database;

    /// <summary>Gets when the hold began, on the clock of <see cref="Stopwatch"/>; 0 when nobody listens to telemetry.</summary>
    public long Start { get; } = database is null ? 0 : Stopwatch.GetTimestamp();

    public CancellationToken Lost => _loss.Token;

    public void Release()
    {
        _isReleased = true;

        // Only holds of session scope are measured: nothing tells when a transaction has ended.
        if (Telemetry.HearsHolds && Options.Scope == LockScope.Session)
        {
            Tell(Telemetry.Released);
        }
    }

    public void Lose()
    {
        if (!_loss.IsLost && Telemetry.HearsHolds)
        {
            Tell(Telemetry.Lost);
        }

        _loss.Lose();
    }

    private void Tell(string outcome) => Telemetry.Held(Database, Identity.Dialect, Key, Options, Start, outcome);
}
