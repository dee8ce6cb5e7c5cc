using System.Data.Common;
using System.Diagnostics;

namespace DbLock;

/// <summary>One lock that a session holds, from its grant to its end.</summary>
internal sealed class Hold(LockIdentity identity, LockKey key, LockOptions options, ILockDriver driver, string? database, DbTransaction? transaction, long transactionId)
{
    private CancellationTokenSource? _lost;
    private volatile bool _isLost;
    private volatile bool _isReleased;

    public LockIdentity Identity { get; } = identity;

    public LockKey Key { get; } = key;

    public LockOptions Options { get; } = options;

    public ILockDriver Driver { get; } = driver;

    /// <summary>Gets the number of the transaction that ends a hold of transaction scope; 0 when the dialect does not tell.</summary>
    public long TransactionId { get; } = transactionId;

    /// <summary>Gets or sets how many acquires stand, over all the locks of the connection that share this hold.</summary>
    public int Count { get; set; } = 1;

    /// <summary>Gets whether the hold stands, as far as is known here.</summary>
    public bool Stands => !_isLost && !_isReleased && (transaction is null || transaction.IsOpen());

    public bool IsLost => _isLost;

    /// <summary>Gets the database, when somebody listens.</summary>
    public string? Database { get; } = database;

    /// <summary>Gets when it began, on the clock of <see cref="Stopwatch"/>; 0 when nobody listens.</summary>
    public long Start { get; } = database is null ? 0 : Stopwatch.GetTimestamp();

    public CancellationToken Lost
    {
        get
        {
            // Whoever comes second, this getter or Lose, sees what the other did.
            var lost = _lost ?? Interlocked.CompareExchange(ref _lost, new CancellationTokenSource(), null) ?? _lost!;
            return _isLost ? new CancellationToken(canceled: true) : lost.Token;
        }
    }

    public void Release()
    {
        _isReleased = true;

        // Nobody tells when a transaction ends.
        if (Telemetry.HearsHolds && Options.Scope == LockScope.Session)
        {
            Telemetry.Held(this, Telemetry.Released);
        }
    }

    public void Lose()
    {
        if (!_isLost && Telemetry.HearsHolds)
        {
            Telemetry.Held(this, Telemetry.Lost);
        }

        _isLost = true;
        Interlocked.MemoryBarrier();

        // The callbacks run elsewhere: they are the caller's, and this may be the middle of the connection's own close.
        _ = _lost?.CancelAsync();
    }
}
