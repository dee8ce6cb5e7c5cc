namespace DbLock;

/// <summary>A place in the flow of the program at which a lock of a pool was asked for, and what is held around it.</summary>
/// <remarks>
/// It knows the hold only while that stands, and of what is around it only what is held: locking hand over hand keeps nothing of what was
/// let go.
/// </remarks>
internal sealed class PoolFlow
{
    private static readonly AsyncLocal<PoolFlow?> Innermost = new();

    private PoolFlow? _outer;

    private PoolFlow(PoolFlow? outer) => _outer = outer;

    /// <summary>Gets what is held since; null before the grant and after the end.</summary>
    public PoolHold? Hold { get; private set; }

    /// <summary>Gets the holds around it, from the nearest.</summary>
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

    /// <summary>Gets whether anything is held around it.</summary>
    public bool IsUnderLock => NearestHeld(_outer) is not null;

    /// <summary>Begins a place inside of what the caller's flow holds.</summary>
    public static PoolFlow Begin() => new(NearestHeld(Innermost.Value));

    /// <summary>
    /// Makes the rest of the caller's flow a part of it. Called before the caller's first await, it is seen by the caller's method.
    /// </summary>
    public void Enter() => Innermost.Value = this;

    /// <summary>Begins the hold.</summary>
    public void Begin(PoolHold hold) => Hold = hold;

    /// <summary>Ends the hold.</summary>
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
