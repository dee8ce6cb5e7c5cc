namespace DbLock;

/// <summary>The place in the program's flow at which a lock of a pool was asked for. It knows which holds surround it.</summary>
/// <remarks>
/// It keeps a hold only while that stands, and links only to surrounding places whose holds stand. So a program that acquires the next lock
/// before it releases the last one, again and again, keeps no chain of places in memory.
/// </remarks>
internal sealed class PoolFlow
{
    private static readonly AsyncLocal<PoolFlow?> Innermost = new();

    private PoolFlow? _outer;

    private PoolFlow(PoolFlow? outer) => _outer = outer;

    /// <summary>Gets the hold that was granted to the request of this place; null before the grant and after the release.</summary>
    public PoolHold? Hold { get; private set; }

    /// <summary>Gets the surrounding holds, the nearest first.</summary>
    public IEnumerable<PoolHold> Around
    {
        get
        {
            for (var flow = _outer; flow is not null; flow = flow._outer)
            {
                if (flow.Hold is { } hold)
                {
                    yield return hold;
                }
            }
        }
    }

    /// <summary>Gets whether any hold surrounds it.</summary>
    public bool IsUnderLock => NearestHeld(_outer) is not null;

    /// <summary>Makes a new place inside the present flow of the caller.</summary>
    public static PoolFlow Begin() => new(NearestHeld(Innermost.Value));

    /// <summary>
    /// Makes it the present place of the caller's flow. It must be called before the caller's first await: only then the caller's own
    /// method sees the change.
    /// </summary>
    public void Enter() => Innermost.Value = this;

    /// <summary>Notes the grant.</summary>
    public void Begin(PoolHold hold) => Hold = hold;

    /// <summary>Notes the end of the hold.</summary>
    public void End()
    {
        Hold = null;
        _outer = NearestHeld(_outer);
    }

    private static PoolFlow? NearestHeld(PoolFlow? flow)
    {
        while (flow is { Hold: null })
        {
            flow = flow._outer;
        }

        return flow;
    }
}
