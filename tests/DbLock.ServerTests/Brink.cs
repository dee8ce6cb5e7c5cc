using System.Diagnostics;

namespace DbLock.ServerTests;

/// <summary>
/// How long after the one thing the other begins, in a race that is run again and again: later each time that the other came first, sooner each
/// time that it did not, so that both happen, however fast or busy the machine is.
/// </summary>
internal sealed class Brink
{
    private TimeSpan _after = TimeSpan.FromMicroseconds(100);

    public void Wait()
    {
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < _after;)
        {
            Thread.SpinWait(20);
        }
    }

    public void Tell(bool otherCameFirst) =>
        _after = otherCameFirst ? (_after * 1.5) + TimeSpan.FromMicroseconds(10) : _after * (Random.Shared.NextDouble() / 2 + 0.25);
}
