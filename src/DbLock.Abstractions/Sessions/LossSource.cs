namespace DbLock;

/// <summary>The token of a hold that fires when the hold is lost. A field of what has it; never copied.</summary>
internal struct LossSource
{
    private CancellationTokenSource? _lost;
    private volatile bool _isLost;

    public readonly bool IsLost => _isLost;

    public CancellationToken Token
    {
        get
        {
            // Whoever comes second, this getter or Lose, sees what the other did.
            var lost = _lost ?? Interlocked.CompareExchange(ref _lost, new CancellationTokenSource(), null) ?? _lost!;
            return _isLost ? new CancellationToken(canceled: true) : lost.Token;
        }
    }

    public void Lose()
    {
        _isLost = true;
        Interlocked.MemoryBarrier();

        // The callbacks run elsewhere: they are the caller's, and this may be the middle of the connection's own close.
        _ = _lost?.CancelAsync();
    }
}
