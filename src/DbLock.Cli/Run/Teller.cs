namespace DbLock.Cli;

/// <summary>Tells the user things without waiting until he reads: a pipe that is full must not keep a command from being stopped.</summary>
internal sealed class Teller
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    private readonly object _turn = new();
    private Task _said = Task.CompletedTask;

    /// <summary>Says something after what was said before.</summary>
    public void Say(string message)
    {
        lock (_turn)
        {
            _said = _said.ContinueWith(
                _ => Dblock.Say(message), CancellationToken.None, TaskContinuationOptions.LongRunning, TaskScheduler.Default);
        }
    }

    /// <summary>Waits until all is said, no longer than a second.</summary>
    public Task EndAsync() => Task.WhenAny(_said, Task.Delay(Limit));
}
