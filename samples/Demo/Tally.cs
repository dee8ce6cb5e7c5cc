namespace Demo;

/// <summary>What one worker did in one round.</summary>
internal sealed class Tally
{
    public int Increments => Acquire.Count;

    /// <summary>The tries, and the waits with a timeout, that ended without the lock.</summary>
    public int GivenUp { get; private set; }

    /// <summary>How long the acquires took that got the lock.</summary>
    public Times Acquire { get; } = new();

    public Times Release { get; } = new();

    /// <summary>Adds what the worker says in a line.</summary>
    public void Add(string line)
    {
        switch (line.Split(' '))
        {
            case ["done", var acquire, var release]:
                Release.Add(int.Parse(release));
                Acquire.Add(int.Parse(acquire));
                break;
            case ["given-up"]:
                GivenUp++;
                break;
            default:
                throw new InvalidOperationException($"a worker said '{line}'.");
        }
    }
}
