namespace Demo;

/// <summary>A round that is over.</summary>
/// <param name="Title">Its title.</param>
/// <param name="Increments">How many increments the workers made.</param>
/// <param name="Counter">What the counter says.</param>
/// <param name="Most">The most tasks that were inside, between the read and the write, at the same time.</param>
internal sealed record Round(string Title, int Increments, long Counter, int Most)
{
    public long Lost => Increments - Counter;

    public bool IsExclusive => Lost == 0 && Most == 1;
}
