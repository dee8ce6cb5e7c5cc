using System.Diagnostics;

namespace DbLock;

/// <summary>
/// One lock of a pool that is held, from its grant to its end. The pool references this object; the caller has the
/// <see cref="PooledLock"/>, so that a caller who drops it without a release is noticed.
/// </summary>
/// <param name="key">The key.</param>
/// <param name="shared">Whether it is shared.</param>
/// <param name="token">The fencing token; 0 for none.</param>
internal sealed class PoolHold(LockKey key, bool shared, long token)
{
    private LossSource _loss;
    private bool _isHeld = true;

    public LockKey Key => key;

    public bool Shared => shared;

    /// <summary>Gets the fencing token; 0 for none.</summary>
    public long Token => token;

    /// <summary>Gets the lease; null for a lock that a session carries.</summary>
    public LeaseHold? Lease { get; init; }

    /// <summary>Gets or sets whether the lock is held, as far as is known.</summary>
    public bool IsHeld
    {
        get => _isHeld && Lease is not { IsEnded: true };
        set => _isHeld = value;
    }

    public bool IsLost => _loss.IsLost || Lease is { IsLost: true };

    public CancellationToken Lost => _loss.Token;

    /// <summary>Gets or sets whether the caller who releases it was told of its loss.</summary>
    public bool IsLossTold { get; set; }

    /// <summary>Gets or sets for how many of its keys the server has not yet confirmed the release.</summary>
    public int Unlocking { get; set; }

    /// <summary>
    /// Gets or sets what the caller of the release awaits; null when nobody does. Its result says whether the lock was held to the end.
    /// </summary>
    public PoolPromise<bool>? Released { get; set; }

    /// <summary>Gets when it was granted, on the clock of <see cref="Stopwatch"/>; 0 when nobody listens to telemetry.</summary>
    public long Start { get; } = Telemetry.HearsHolds ? Stopwatch.GetTimestamp() : 0;

    public void Lose() => _loss.Lose();

    /// <summary>Ends it as lost if it is a lease that is trusted no more.</summary>
    public void CheckTrust()
    {
        if (IsHeld)
        {
            Lease?.IsHeld(Stopwatch.GetTimestamp());
        }
    }

    /// <summary>Tells the caller who releases it that it was lost. Only the first caller is told.</summary>
    public ValueTask<bool> TellLoss(bool orThrow)
    {
        IsLossTold = true;
        return orThrow ? throw Loss() : new(false);
    }

    public LockLostException Loss() => Lease is not null ? LeaseRefusals.Lost(Key, null) : new(
        $"Lock '{Key}' was lost: the server no longer held it for the pool's connection, whose session ended or fell silent, or "
        + "the pool was disposed under it. The work under the lock may not have been alone: check it.",
        null);
}
