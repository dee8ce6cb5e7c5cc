using System.Diagnostics;

namespace DbLock;

/// <summary>
/// What a <see cref="Lock"/> holds whose key has slots: one slot, which is a lock of its own to the server. They are tried, and again
/// after a pause, because no engine waits for whichever of several locks comes free first.
/// </summary>
internal sealed class SlotHolding(Conversation conversation) : Holding(conversation)
{
    private readonly LockKey _key = conversation.Key;
    private int _isAsking;
    private int? _slot;

    // Whether this connection holds all slots itself.
    private bool _isOurs;

    /// <inheritdoc />
    public override int? Slot => _slot;

    /// <summary>Gets or sets the place in the line of this process; null for none.</summary>
    public LeaseLine.Place? Place { get; set; }

    /// <inheritdoc />
    protected override async ValueTask<bool> AcquireOnConnection(
        TimeSpan timeout, Limit limit, bool async, CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref _isAsking, 1) != 0)
        {
            throw Refusals.InUse(_key);
        }

        try
        {
            if (IsHeld)
            {
                return timeout == TimeSpan.Zero ? false : throw Refusals.WouldWaitForItself(_key, "a key with slots counts one acquire");
            }

            for (var start = Stopwatch.GetTimestamp(); ;)
            {
                _isOurs = false;
                if (await base.AcquireOnConnection(TimeSpan.Zero, limit, async, cancellationToken).ConfigureAwait(false))
                {
                    return true;
                }

                if (timeout == TimeSpan.Zero || limit is { Timeout.Ticks: > 0, LeftToWait.Ticks: 0 })
                {
                    return false;
                }

                if (_isOurs)
                {
                    throw Refusals.WouldWaitForItself(_key, "it holds all of its slots");
                }

                Place?.HasMissed = true;
                await Pause(start, limit, async).ConfigureAwait(false);
            }
        }
        finally
        {
            Conversation.Key = IsHeld ? Conversation.Key : _key;
            Volatile.Write(ref _isAsking, 0);
        }
    }

    /// <inheritdoc />
    protected override async ValueTask<Hold?> Ask(LockRequest request, bool async, CancellationToken cancellationToken)
    {
        LockKey[] slots = [.. Enumerable.Range(1, _key.SlotCount).Select(_key.Slot)];
        var hold = await Acquiring.AcquireAny(Conversation, request, slots, HasNewTransaction, async, cancellationToken)
            .ConfigureAwait(false);
        if (hold is null)
        {
            _isOurs = Array.TrueForAll(slots, slot => !Acquiring.IsFree(Conversation, slot));
            return null;
        }

        _slot = 1 + Array.IndexOf(slots, Conversation.Key);
        return hold;
    }

    /// <inheritdoc />
    protected override async ValueTask<bool> ReleaseOnConnection(bool async)
    {
        try
        {
            return await base.ReleaseOnConnection(async).ConfigureAwait(false);
        }
        finally
        {
            Conversation.Key = IsHeld ? Conversation.Key : _key;
        }
    }

    private async ValueTask Pause(long start, Limit limit, bool async)
    {
        try
        {
            await LeaseAsking.Pause(LeaseAsking.Poll(start), limit, async, Place?.First).ConfigureAwait(false);
        }
        catch (OperationCanceledException e)
        {
            throw Refusals.Cancelled(_key, e, limit.Token);
        }
    }
}
