namespace DbLock.Torture;

/// <summary>Something that was done to the network or to the process of one worker.</summary>
internal sealed class Disturbance(string worker, long from, bool isPause)
{
    public string Worker { get; } = worker;

    public long From { get; } = from;

    public bool IsPause { get; } = isPause;

    /// <summary>Gets when it ended; the end of time while it lasts.</summary>
    public long To { get; private set; } = long.MaxValue;

    /// <summary>Gets whether it ended connections.</summary>
    public bool Tears { get; private set; }

    public void End(long now, bool tears = false) => (To, Tears) = (now, tears);
}
