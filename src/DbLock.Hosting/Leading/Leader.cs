using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>An election, as the application sees it.</summary>
internal sealed class Leader(LockKey key, ILockSource source, ILogger logger) : ILeader
{
    // How long a question waits for the lock, which another has. It is behind this process's own candidate, so that it takes nothing.
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(50);

    private static readonly CancellationToken Over = new(canceled: true);

    // Held and token in one object, so that who reads both reads those of one term.
    private volatile TermOf? _term;

    public LockKey Key => key;

    public bool IsLeader => _term is { Held.IsHeld: true };

    public long? FencingToken => _term is { Held: { IsHeld: true, FencingToken: var token } } ? token : null;

    public CancellationToken Term => _term?.Ended ?? Over;

    public event EventHandler<LeaderEventArgs>? Changed;

    public ILockSource Source => source;

    public void Begin(IHeldLock held, CancellationToken ended)
    {
        _term = new(held, ended);
        Tell(LeaderChange.Elected, held.FencingToken);
    }

    public void End(LeaderChange change)
    {
        var token = _term?.Held.FencingToken;
        _term = null;
        Tell(change, token);
    }

    public async ValueTask<LockHolders?> GetHoldersAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            var held = await source.AcquireLockAsync(key, Moment, cancellationToken: cancellationToken).ConfigureAwait(false);
            await held.DisposeAsync().ConfigureAwait(false);
            return new LockHolders(key, [], waiting: 0);
        }
        catch (LockNotAcquiredException e)
        {
            return e.Holders;
        }
    }

    private void Tell(LeaderChange change, long? token)
    {
        try
        {
            Changed?.Invoke(this, new LeaderEventArgs(change, token));
        }
        catch (Exception e)
        {
            LeaderLog.HandlerFailed(logger, key, e);
        }
    }

    private sealed record TermOf(IHeldLock Held, CancellationToken Ended);
}
