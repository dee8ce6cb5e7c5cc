namespace DbLock;

/// <summary>
/// The source of the token that fires when a hold is lost. It is a struct that stands in one field and must not be copied.
/// </summary>
internal struct LossSource
{
    private CancellationTokenSource? _lost;
    private volatile bool _isLost;

    public readonly bool IsLost => _isLost;

    public CancellationToken Token
    {
        get
        {
            // This getter and Lose may run at the same time. Whichever writes second sees what the other has written.
            var lost = _lost ?? Interlocked.CompareExchange(ref _lost, new CancellationTokenSource(), null) ?? _lost!;
            return _isLost ? new CancellationToken(canceled: true) : lost.Token;
        }
    }

    public void Lose()
    {
        _isLost = true;
        Interlocked.MemoryBarrier();

        // The token's callbacks are the caller's code, and this may run while the connection is being closed: so they run on another
        // thread.
        _ = _lost?.CancelAsync();
    }
}
