using System.Diagnostics;

namespace DbLock;

/// <summary>One lease that is held, from its grant to its end. It asks nobody.</summary>
/// <remarks>
/// It is trusted for less than the server keeps it: counted from before the question was sent, less a twentieth for clocks that run at
/// different rates, less what two servers' clocks may differ by.
/// </remarks>
internal sealed class LeaseHold
{
    private readonly long _start = Telemetry.HearsHolds ? Stopwatch.GetTimestamp() : 0;
    private readonly string? _database;
    private readonly LockDialect _dialect;
    private readonly long _trusted;
    private LossSource _loss;
    private long _confirmed;
    private int _isEnded;
    private int _isLossTold;

    /// <summary>Initializes a new instance for a grant.</summary>
    /// <param name="key">The key.</param>
    /// <param name="options">How it is held.</param>
    /// <param name="rows">Its rows.</param>
    /// <param name="token">Its fencing token.</param>
    /// <param name="asked">When the question was sent, on the clock of <see cref="Stopwatch"/>.</param>
    /// <param name="where">The database and the dialect.</param>
    public LeaseHold(
        LockKey key, LockOptions options, LeaseRow[] rows, long token, long asked, (string? Database, LockDialect Dialect) where)
    {
        (Key, Options, Rows, Token, _confirmed) = (key, options, rows, token, asked);
        (_database, _dialect) = where;
        Trusted = TrustOf(options, where.Dialect);
        _trusted = (long)(Trusted.TotalSeconds * Stopwatch.Frequency);
        RenewAt = asked + Ticks(options.Lease / 3);
    }

    /// <summary>Gets whether another tells of its end in its place: a pool.</summary>
    public bool IsToldElsewhere { get; init; }

    public LockKey Key { get; }

    public LockOptions Options { get; }

    /// <summary>Gets or sets whether somebody ran under it, so that its end keeps <see cref="LockOptions.AtLeast"/>.</summary>
    public bool WasHeld { get; set; } = true;

    public LeaseRow[] Rows { get; }

    public string Owner => Rows[0].Owner;

    public long Token { get; }

    /// <summary>Gets which slot it is; null for a key without slots.</summary>
    public int? Slot => Rows[0].Slot is > 0 and var slot ? slot : null;

    /// <summary>Gets or sets what is called when it is lost.</summary>
    public Action? WhenLost { get; set; }

    /// <summary>Gets or sets what is called when it was released.</summary>
    public Action? WhenReleased { get; set; }

    /// <summary>Gets for how long an answer is trusted.</summary>
    public TimeSpan Trusted { get; }

    /// <summary>Gets or sets when it is to be renewed, on the clock of <see cref="Stopwatch"/>.</summary>
    public long RenewAt { get; set; }

    /// <summary>Gets when the trust ends, on the clock of <see cref="Stopwatch"/>.</summary>
    public long TrustEnds => Volatile.Read(ref _confirmed) + _trusted;

    public bool IsLost => _loss.IsLost;

    public CancellationToken Lost => _loss.Token;

    /// <summary>Gets whether it was released or lost.</summary>
    public bool IsEnded => Volatile.Read(ref _isEnded) != 0;

    /// <summary>Returns for how long a lease of these options is trusted.</summary>
    public static TimeSpan TrustOf(LockOptions options, LockDialect dialect)
    {
        var margin = options.ClockMargin ?? Leasing.Of(dialect).ClockMargin;
        return options.Lease - (options.Lease / 20) - (margin < options.Lease / 2 ? margin : options.Lease / 2);
    }

    public static long Ticks(TimeSpan time) => (long)(time.TotalSeconds * Stopwatch.Frequency);

    /// <summary>Says whether the answer that gave it came in time to be trusted.</summary>
    public bool IsInTime(long now) => now <= TrustEnds;

    /// <summary>Says whether it should have been renewed by a time: half of it is over since the last renewal.</summary>
    public bool IsLate(long now) => now - Volatile.Read(ref _confirmed) > Ticks(Options.Lease / 2);

    /// <summary>Says whether it is held at a time. It ends as lost when its trust has run out.</summary>
    public bool IsHeld(long now)
    {
        if (!IsEnded && now > TrustEnds)
        {
            Lose(null);
        }

        return !IsEnded;
    }

    /// <summary>Notes that the server has renewed it. A confirmation that comes after the trust has run out is too late.</summary>
    /// <param name="asked">When the question was sent.</param>
    /// <param name="now">The time.</param>
    public void Confirm(long asked, long now)
    {
        if (IsHeld(now))
        {
            Volatile.Write(ref _confirmed, asked);
            RenewAt = asked + Ticks(Options.Lease / 3);
        }
    }

    /// <summary>Ends it as released.</summary>
    /// <returns>False when it had ended before.</returns>
    public bool Release()
    {
        if (Interlocked.Exchange(ref _isEnded, 1) != 0)
        {
            return false;
        }

        Tell(Telemetry.Released);
        return true;
    }

    /// <summary>Ends it as lost.</summary>
    public void Lose(Exception? error)
    {
        if (Interlocked.Exchange(ref _isEnded, 1) == 0)
        {
            _loss.Lose();
            WhenLost?.Invoke();
            if (!IsToldElsewhere)
            {
                Log.LeaseLost(QuietLogger.Of(Options.Logger), Key, error);
                Tell(Telemetry.Lost);
            }
        }
    }

    /// <summary>Notes that what was being released had been lost.</summary>
    public void LoseAtRelease()
    {
        _loss.Lose();
        Log.LeaseLost(QuietLogger.Of(Options.Logger), Key, null);
    }

    /// <summary>Says whether it is lost and nobody was told of that yet. Only the first caller is told.</summary>
    public bool TakeLoss() => IsLost && Interlocked.Exchange(ref _isLossTold, 1) == 0;

    private void Tell(string outcome)
    {
        if (Telemetry.HearsHolds && !IsToldElsewhere)
        {
            Telemetry.Held(_database, _dialect, Key, Options, _start, outcome);
        }
    }
}
